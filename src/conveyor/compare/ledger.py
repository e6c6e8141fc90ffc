"""The ledger: a database table with the state of every trial of a study (waiting, running or ended) and its worker.

All trials are inserted at the start. A worker claims a waiting trial, sends heartbeats, and writes the outcome. A trial
whose worker has died becomes waiting again. SQLite serves one machine, PostgreSQL many. Each change of a trial is one
UPDATE with the expected state in its condition, so that of two competing workers only one changes the row, and the
other sees that no row has changed.

A machine that takes over the trial of another machine has no checkpoint of it, unless they share the folder, and
restarts it. The result is the same, since a trial depends only on the configuration of the study, its key and earlier
outcomes.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from conveyor.errors import BadInput

GRACE = 60.0  # seconds without a heartbeat after which a worker on another machine counts as dead
PATIENCE = 60.0  # seconds for which an unreachable database is retried
FIRST = 10.0  # the same for a first connection that is refused, since the URL may be wrong
CURE = "pip install 'conveyor[compare]'"
SERVER_CURE = "pip install 'conveyor[cluster]'"
# Error messages of PostgreSQL and SQLite for which retrying is useless; all others are retried for a minute.
HOPELESS = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|permission denied|"
    "Name or service not known|does not support SSL|invalid connection option|is not a database|disk is full"
)
# Connection arguments by driver. They make a server drop the connection and row locks of a machine that has vanished.
CONNECTION: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": 60},
    "postgresql+psycopg": {
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "options": "-c idle_in_transaction_session_timeout=30s",
    },
}
TABLES = """
CREATE TABLE IF NOT EXISTS conveyor_study (number INTEGER PRIMARY KEY, study TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS conveyor_trials (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, losses INTEGER NOT NULL,
    owner TEXT, beat DOUBLE PRECISION, outcome TEXT
)
"""
# These read a ledger of conveyor 0.1.0, in Optuna's tables: the configuration and the trials that have ended.
OLD_STUDY = "SELECT value_json FROM study_user_attributes WHERE key = 'question'"
OLD_TRIALS = """
SELECT studies.study_name, "trial".value_json, trials.state, "outcome".value_json
FROM trials
JOIN studies ON studies.study_id = trials.study_id
JOIN trial_user_attributes AS "trial" ON "trial".trial_id = trials.trial_id AND "trial".key = 'trial'
JOIN trial_user_attributes AS "outcome" ON "outcome".trial_id = trials.trial_id AND "outcome".key = 'outcome'
WHERE trials.state IN ('COMPLETE', 'FAIL')
ORDER BY trials.trial_id DESC  -- of two entries the first counts
"""
T = TypeVar("T")


class Unreachable(BadInput):
    """The database cannot be reached."""


@dataclass(frozen=True)
class Key:
    """Identifies a trial of a task and a cell: one of the search, or a repeat of the best one with a new seed."""

    index: int
    repeat: bool

    def __str__(self) -> str:
        return f"{'repeat' if self.repeat else 'trial'}-{self.index}"


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    trial: str  # its name, the primary key, such as adding:40/gru/repeat-0
    pair: tuple[str, str]  # in a comparison: task and cell
    order: int  # index of the pair among all pairs
    key: Key
    losses: int  # how many workers have died while running it
    state: str  # the name of a field of Counts

    @property
    def ended(self) -> bool:
        """Whether its outcome is known."""
        return self.state in ("complete", "failed")


@dataclass(frozen=True)
class Claim:
    """A trial that a worker has claimed, with everything needed to run it."""

    trial: str
    task: str
    cell: str
    key: Key
    seed: int
    settings: dict[str, Any]
    losses: int


class Outcome(Protocol):
    """The outcome of a trial: a dataclass whose fields can be stored as JSON."""

    @property
    def failed(self) -> bool:
        """Whether there is no result."""


class StudyConfig(Protocol):
    """The part of the configuration of a comparison or a search that the ledger needs."""

    def to_json(self) -> str:
        """Everything that affects the results, as JSON; equal only for the same study."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs, such as a task and a cell; all have the same trial keys."""

    def trial_keys(self) -> list[Key]:
        """The keys of the trials of each pair."""

    def ready(self, entries: list[Entry]) -> list[Entry]:
        """The trials that may be claimed now, in the order of preference."""

    def claim(self, entry: Entry, outcomes: Callable[[], list[Any]]) -> Any:
        """The Claim for a trial, or its Outcome if it is known without running the trial."""

    def outcome(self, values: dict[str, Any]) -> Any:
        """The Outcome with these fields, which were read from JSON."""


@dataclass(frozen=True)
class Counts:
    """How many trials are in each state."""

    waiting: int = 0
    running: int = 0
    complete: int = 0
    failed: int = 0

    @property
    def ended(self) -> bool:
        """Whether all trials have ended."""
        return not self.waiting and not self.running


class Ledger:
    """One process's connection to the ledger of a study.

        ledger = Ledger("sqlite:///report/ledger.db", config)    # inserts all trials, or finds them
        while claim := ledger.claim():
            ledger.end(claim, outcome)

    Every method raises BadInput if the database reports a lasting error, and Unreachable if it cannot be reached for a
    minute or until `stopped` returns true. The constructor raises BadInput if the database holds another study.
    """

    def __init__(self, url: str, config: StudyConfig):
        self.config = config
        self.name = masked(url)
        self.owner = f"{machine()}:{os.getpid()}:{born(os.getpid())}"
        self.trials = {
            f"{'/'.join(pair)}/{key}": (pair, order, key)
            for order, pair in enumerate(config.pairs())
            for key in config.trial_keys()
        }
        self.heard: dict[
            tuple[Any, ...], float
        ] = {}  # the last heartbeat of each running trial: when it was first seen here
        self.stopped: Callable[[], bool] = lambda: False
        self.known = False  # whether the database has been reached
        self.engine = connect(url)
        self.call(self.insert_trials)
        self.known = True

    # called by workers

    def claim(self) -> Claim | None:
        """Claims a trial for this worker. Returns None if none may be claimed now."""
        for entry in self.config.ready(self.entries()):
            if self.take(entry):
                claim = self.config.claim(entry, self.outcomes)
                if isinstance(claim, Claim):
                    return claim
                self.end(entry, claim)
        return None

    def beat(self, claim: Claim) -> None:
        """Sends a heartbeat, which shows that the worker is alive."""
        self.change(claim.trial, claim.losses, self.owner, "beat = :beat", beat=time.time())

    def end(self, claim: Claim | Entry, outcome: Any) -> bool:
        """Writes the outcome of a trial. Returns False and writes nothing if another worker has taken it over."""
        state, said = "failed" if outcome.failed else "complete", json.dumps(asdict(outcome))
        to = "state = :state, outcome = :outcome"
        return self.change(claim.trial, claim.losses, self.owner, to, state=state, outcome=said)

    def release(self, claim: Claim, lost: bool = False) -> None:
        """Makes the trial waiting again. `lost`: its process has died, which is counted."""
        self.again(claim.trial, claim.losses, self.owner, lost)

    def recover(self) -> int:
        """Makes the trials of dead workers waiting again. Returns their number."""
        now = time.monotonic()
        running = self.run("SELECT name, losses, owner, beat FROM conveyor_trials WHERE state = 'running'")
        self.heard = {tuple(row): self.heard.get(tuple(row), now) for row in running}
        found = [row for row, since in self.heard.items() if self.gone(row[2], since)]
        return sum(self.again(name, losses, owner, lost=True) for name, losses, owner, _ in found)

    def counts(self) -> Counts:
        """The number of trials in each state."""
        return Counts(**dict(map(tuple, self.run("SELECT state, COUNT(*) FROM conveyor_trials GROUP BY state"))))

    def outcomes(self) -> list[Any]:
        """The outcomes of all trials that have ended, in the order of pairs and keys."""
        found = dict(map(tuple, self.run("SELECT name, outcome FROM conveyor_trials WHERE outcome IS NOT NULL")))
        return [self.config.outcome(json.loads(found[name])) for name in self.trials if name in found]

    def rest(self) -> None:
        """Closes the connection until the next call, since servers allow few and none survives a fork."""
        self.engine.dispose()

    # the database

    def insert_trials(self) -> None:
        """Inserts the configuration and all trials in one transaction, unless another process has done so."""
        from sqlalchemy import text

        asked = self.config.to_json()
        with self.engine.begin() as connection:
            for table in TABLES.split(";"):
                connection.execute(text(table))
            there = connection.execute(text("SELECT study FROM conveyor_study")).scalar()
            before, ended = (there, {}) if there else old_ledger(connection)
            if before not in (None, asked):
                raise BadInput(
                    f"{self.name} already holds another comparison or search: change the flags back, or name "
                    "another folder with --out and another database"
                )
            if there is None:
                new = {"state": "waiting", "outcome": None}
                rows = [{"name": name} | ended.get(name, new) for name in self.trials]
                connection.execute(text("INSERT INTO conveyor_study VALUES (1, :study)"), {"study": asked})
                insert = (
                    "INSERT INTO conveyor_trials (name, state, losses, outcome) VALUES (:name, :state, 0, :outcome)"
                )
                connection.execute(text(insert), rows)

    def entries(self) -> list[Entry]:
        """All trials, in no particular order."""
        rows = self.run("SELECT name, losses, state FROM conveyor_trials")
        return [Entry(name, *self.trials[name], losses, state) for name, losses, state in rows]

    def take(self, entry: Entry) -> bool:
        """Tries to take a trial. Returns whether this worker has it now. Can be retried if a reply was lost."""
        return bool(
            self.run(
                "UPDATE conveyor_trials SET state = 'running', owner = :owner, beat = :beat WHERE name = :name "
                "AND losses = :losses AND (state = 'waiting' OR state = 'running' AND owner = :owner)",
                name=entry.trial,
                losses=entry.losses,
                owner=self.owner,
                beat=time.time(),
            )
        )

    def again(self, trial: str, losses: int, owner: str, lost: bool) -> bool:
        """Makes a trial waiting again if this owner still runs it. Returns whether it did."""
        return self.change(trial, losses, owner, "state = 'waiting', losses = :then", then=losses + lost)

    def change(self, trial: str, losses: int, owner: str, to: str, **values: Any) -> bool:
        """Changes a trial if it is still running under this owner and claim. Returns whether it was."""
        where = "name = :name AND losses = :losses AND owner = :owner AND state = 'running'"
        statement = f"UPDATE conveyor_trials SET {to} WHERE {where}"
        return bool(self.run(statement, name=trial, losses=losses, owner=owner, **values))

    def run(self, statement: str, **values: Any) -> Any:
        """Executes one statement in its own transaction. Returns its rows, or the number of rows changed."""
        from sqlalchemy import text

        def do() -> Any:
            with self.engine.begin() as connection:
                result = connection.execute(text(statement), values)
                return result.all() if result.returns_rows else result.rowcount

        return self.call(do)

    def call(self, do: Callable[[], T]) -> T:
        """Calls `do`, and retries with growing pauses while the database is unreachable."""
        from sqlalchemy.exc import DBAPIError

        began, pause = time.monotonic(), 0.1
        while True:
            try:
                return do()
            except DBAPIError as error:
                reason = message(error)
                if HOPELESS.search(reason):
                    raise BadInput(
                        f"the database {self.name} cannot be used: {reason}; fix this, then start again"
                    ) from error
                if self.stopped() or time.monotonic() - began > self.patience(reason):
                    cure = "nothing is lost: start again when it is available"
                    raise Unreachable(f"the database {self.name} cannot be reached: {reason}; {cure}") from error
            self.heard.clear()  # no heartbeat could be written either
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def patience(self, reason: str) -> float:
        """The number of seconds for which this error is retried."""
        return PATIENCE if self.known or "refused" not in reason else min(FIRST, PATIENCE)

    def gone(self, owner: str, since: float) -> bool:
        """Whether a worker is dead: its process on this machine has ended, or its heartbeat is over a minute old."""
        where, number, at = owner.rsplit(":", 2)
        return born(int(number)) != at if where == machine() else time.monotonic() - since > GRACE


def old_ledger(connection: Any) -> tuple[str | None, dict[str, dict[str, str]]]:
    """The configuration in a ledger of conveyor 0.1.0, or None without one, and the trials that have ended in it."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("study_user_attributes"):
        return None, {}
    study = connection.execute(text(OLD_STUDY)).scalar()
    ended: dict[str, dict[str, str]] = {}
    for pair, trial, state, outcome in connection.execute(text(OLD_TRIALS)):
        key = json.loads(trial)
        state = "complete" if state == "COMPLETE" else "failed"
        ended[f"{pair}/{Key(key['index'], key['repeat'])}"] = {"state": state, "outcome": outcome}
    return study and json.loads(study), ended


def connect(url: str) -> Any:
    """The SQLAlchemy engine for a URL. Raises BadInput for a missing package or driver, or a malformed URL."""
    try:
        import sqlalchemy
    except ImportError as error:
        raise BadInput(f"the ledger needs {error.name}: {CURE}") from error
    try:
        where = sqlalchemy.make_url(re.sub("^postgres(ql)?://", "postgresql+psycopg://", url))
        arguments = {
            name: value for name, value in CONNECTION.get(where.drivername, {}).items() if name not in where.query
        }
        return sqlalchemy.create_engine(where, connect_args=arguments, pool_size=1)
    except ImportError as error:
        cure = SERVER_CURE if url.startswith("postgres") else "install its driver for SQLAlchemy"
        raise BadInput(f"the database {masked(url)} needs a driver that is not installed: {cure}") from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        cure = "give a URL such as sqlite:///file.db or postgresql://user@host/name"
        raise BadInput(f"the database {masked(url)} cannot be used: {masked(str(error))}; {cure}") from error


def masked(text: str) -> str:
    """A URL, or a message that quotes it, with the password hidden."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]*", r"\1***", text)


def message(error: Exception) -> str:
    """The database's error message in one line."""
    return " ".join(masked(str(getattr(error, "orig", None) or error)).split())[:300]


def machine() -> str:
    """Identifies this machine and container until the next boot, since host names are not always unique."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def born(process: int) -> str:
    """The start time of a process on this machine, in kernel ticks; "" if there is no such process."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
