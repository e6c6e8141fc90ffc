"""Who does which trial: a ledger in a database, in which every trial of a study stands from the start.

A worker claims a trial that waits, says now and then that it is alive, and ends it; a trial whose worker is gone waits
again. SQLite does for one machine, PostgreSQL for many. Each change of a trial is one UPDATE whose condition says what
the trial must be, so that of two workers one changes it and the other is told that it came too late.

A machine that takes over another's trial has no checkpoint of it, unless the folder is shared, and begins it anew. That
gives the same result, since a trial is computed from the study, its key and the outcomes before it alone.
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

GRACE = 60.0  # seconds without a new word after which a worker of another machine is taken for dead
PATIENCE = 60.0  # seconds for which a database that is away is tried again
FIRST = 10.0  # seconds, where nobody is there when it is first looked for: its name may be wrong
CURE = "pip install 'conveyor[compare]'"
SERVER_CURE = "pip install 'conveyor[cluster]'"
# What no patience mends, as PostgreSQL and SQLite say it in English; what they say otherwise is tried for a minute.
HOPELESS = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|permission denied|"
    "Name or service not known|does not support SSL|invalid connection option|is not a database|disk is full"
)
# How to connect, by driver. What a machine that vanished left behind on a server is given up: its connection, and the
# rows that it locked.
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
# Ledgers of conveyor 0.1.0, which Optuna kept in tables of its own: the study, and each trial that has ended.
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


class Away(BadInput):
    """The database cannot be reached."""


@dataclass(frozen=True)
class Key:
    """Which trial of its pair: one of the search, or a repeat of the best one."""

    index: int
    repeat: bool

    def __str__(self) -> str:
        return f"{'repeat' if self.repeat else 'trial'}-{self.index}"


@dataclass(frozen=True)
class Entry:
    """A trial as it stands in the database."""

    trial: str  # its name in the database: adding:40/gru/repeat-0
    pair: tuple[str, str]  # such as a task and a cell
    order: int  # of the pair among all
    key: Key
    losses: int  # how often it has been lost with its worker
    state: str  # the name of a field of Counts

    @property
    def ended(self) -> bool:
        return self.state in ("complete", "failed")


@dataclass(frozen=True)
class Claim:
    """A trial that is this worker's to do."""

    trial: str
    task: str
    cell: str
    key: Key
    seed: int
    settings: dict[str, Any]
    losses: int


class Outcome(Protocol):
    """What came out of a trial: a dataclass of what JSON knows."""

    @property
    def failed(self) -> bool: ...


class Study(Protocol):
    """What a ledger must know of a comparison or a search."""

    def to_json(self) -> str: ...

    def pairs(self) -> Iterator[tuple[str, str]]: ...

    def trial_keys(self) -> list[Key]:
        """Those that each pair has."""

    def ready(self, entries: list[Entry]) -> list[Entry]:
        """Of all trials those that may be claimed now, the first first."""

    def claim(self, entry: Entry, outcomes: Callable[[], list[Any]]) -> Any:
        """The Claim to a trial; or its Outcome, if there is nothing to do."""

    def outcome(self, values: dict[str, Any]) -> Any:
        """An Outcome as it was before it was written down."""


@dataclass(frozen=True)
class Counts:
    """How many trials are in each state."""

    waiting: int = 0
    running: int = 0
    complete: int = 0
    failed: int = 0

    @property
    def ended(self) -> bool:
        return not self.waiting and not self.running


class Ledger:
    """The ledger of a study, as one process sees it.

        ledger = Ledger("sqlite:///report/ledger.db", study)    # writes down all trials, or finds them
        while claim := ledger.claim():
            ledger.end(claim, outcome)

    Raises BadInput where the database has another study's trials, or refuses; Away where it stays away for a minute, or
    until `stopped` says that there is no time.
    """

    def __init__(self, url: str, study: Study):
        self.study = study
        self.name = masked(url)
        self.owner = f"{machine()}:{os.getpid()}:{born(os.getpid())}"
        self.trials = {
            f"{'/'.join(pair)}/{key}": (pair, order, key)
            for order, pair in enumerate(study.pairs())
            for key in study.trial_keys()
        }
        self.heard: dict[tuple[Any, ...], float] = {}  # the last word on each trial that runs, and when it came here
        self.stopped: Callable[[], bool] = lambda: False
        self.known = False  # whether the database has been reached
        self.engine = connect(url)
        self.call(self.write_down)
        self.known = True

    # what a process does with it

    def claim(self) -> Claim | None:
        """A trial to do, or None if none waits."""
        for entry in self.study.ready(self.entries()):
            if self.take(entry):
                claim = self.study.claim(entry, self.outcomes)
                if isinstance(claim, Claim):
                    return claim
                self.end(entry, claim)
        return None

    def beat(self, claim: Claim) -> None:
        """Says that the worker is alive."""
        self.change(claim.trial, claim.losses, self.owner, "beat = :beat", beat=time.time())

    def end(self, claim: Claim | Entry, outcome: Any) -> bool:
        """Writes down what came out; False if the trial was taken over, and so is no longer this worker's."""
        state, said = "failed" if outcome.failed else "complete", json.dumps(asdict(outcome))
        to = "state = :state, outcome = :outcome"
        return self.change(claim.trial, claim.losses, self.owner, to, state=state, outcome=said)

    def release(self, claim: Claim, lost: bool = False) -> None:
        """The trial waits again. `lost`: since its process is gone, which counts."""
        self.again(claim.trial, claim.losses, self.owner, lost)

    def recover(self) -> int:
        """Trials whose workers are gone wait again: how many."""
        now = time.monotonic()
        running = self.run("SELECT name, losses, owner, beat FROM conveyor_trials WHERE state = 'running'")
        self.heard = {tuple(row): self.heard.get(tuple(row), now) for row in running}
        found = [row for row, since in self.heard.items() if self.gone(row[2], since)]
        return sum(self.again(name, losses, owner, lost=True) for name, losses, owner, _ in found)

    def counts(self) -> Counts:
        return Counts(**dict(map(tuple, self.run("SELECT state, COUNT(*) FROM conveyor_trials GROUP BY state"))))

    def outcomes(self) -> list[Any]:
        """Of all trials that have ended, in the order of the study."""
        found = dict(map(tuple, self.run("SELECT name, outcome FROM conveyor_trials WHERE outcome IS NOT NULL")))
        return [self.study.outcome(json.loads(found[name])) for name in self.trials if name in found]

    def rest(self) -> None:
        """Closes its connection; the next call opens another. A server bears few, and none outlives a fork."""
        self.engine.dispose()

    # how it is kept

    def write_down(self) -> None:
        """The study and all its trials, in one transaction, unless they are there: who comes second finds them."""
        from sqlalchemy import text

        asked = self.study.to_json()
        with self.engine.begin() as connection:
            for table in TABLES.split(";"):
                connection.execute(text(table))
            there = connection.execute(text("SELECT study FROM conveyor_study")).scalar()
            before, ended = (there, {}) if there else old_ledger(connection)
            if before not in (None, asked):
                raise BadInput(
                    f"{self.name} already has another comparison or search: change what is asked back, or name "
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
        rows = self.run("SELECT name, losses, state FROM conveyor_trials")
        return [Entry(name, *self.trials[name], losses, state) for name, losses, state in rows]

    def take(self, entry: Entry) -> bool:
        """Whether this worker has it now; also where the database did so before, and went away without saying it."""
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
        """The trial waits again, if it still runs for this owner."""
        return self.change(trial, losses, owner, "state = 'waiting', losses = :then", then=losses + lost)

    def change(self, trial: str, losses: int, owner: str, to: str, **values: Any) -> bool:
        """Changes a trial that runs for this owner, who has claimed it after so many losses; False if it does not."""
        where = "name = :name AND losses = :losses AND owner = :owner AND state = 'running'"
        statement = f"UPDATE conveyor_trials SET {to} WHERE {where}"
        return bool(self.run(statement, name=trial, losses=losses, owner=owner, **values))

    def run(self, statement: str, **values: Any) -> Any:
        """One statement in a transaction of its own: the rows that it finds, or how many it changes."""
        from sqlalchemy import text

        def do() -> Any:
            with self.engine.begin() as connection:
                result = connection.execute(text(statement), values)
                return result.all() if result.returns_rows else result.rowcount

        return self.call(do)

    def call(self, do: Callable[[], T]) -> T:
        """Does it, and again with longer and longer pauses while the database is away. Raises Away after a minute."""
        from sqlalchemy.exc import DBAPIError

        began, pause = time.monotonic(), 0.1
        while True:
            try:
                return do()
            except DBAPIError as error:
                reason = said(error)
                if HOPELESS.search(reason):
                    raise BadInput(f"the database {self.name} cannot be used: {reason}; mend that") from error
                if self.stopped() or time.monotonic() - began > self.patience(reason):
                    cure = "nothing is lost: start again when it is back"
                    raise Away(f"the database {self.name} cannot be reached: {reason}; {cure}") from error
            self.heard.clear()  # nobody could say a word
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def patience(self, reason: str) -> float:
        """How long what the database said is borne."""
        return PATIENCE if self.known or "refused" not in reason else min(FIRST, PATIENCE)

    def gone(self, owner: str, since: float) -> bool:
        """Whether the worker that runs a trial is: it has ended on this machine, or said nothing new for a minute."""
        where, number, at = owner.rsplit(":", 2)
        return born(int(number)) != at if where == machine() else time.monotonic() - since > GRACE


def old_ledger(connection: Any) -> tuple[str | None, dict[str, dict[str, str]]]:
    """The study of a ledger of conveyor 0.1.0, if there is one, and the state and outcome of what has ended in it."""
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
    """SQLAlchemy's engine. Raises BadInput where it, or a driver, is missing, and for a URL that is none."""
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
        cure = "sqlite:///file.db and postgresql://user@host/name are such URLs"
        raise BadInput(f"the database {masked(url)} cannot be used: {masked(str(error))}; {cure}") from error


def masked(text: str) -> str:
    """A URL, or what was said of it, without its password."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]*", r"\1***", text)


def said(error: Exception) -> str:
    """What the database said, in one line."""
    return " ".join(masked(str(getattr(error, "orig", None) or error)).split())[:300]


def machine() -> str:
    """Names this machine until it is started anew; names of hosts are not always different, nor containers' numbers."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def born(process: int) -> str:
    """When a process of this machine began, as the kernel has it; "" if there is none."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
