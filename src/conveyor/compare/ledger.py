"""Who does which trial: a ledger in a database, one Optuna study for each pair of names, such as a task and a cell.

Every trial of what is asked stands in it from the start, waiting. A worker claims one, says now and then that it is
alive, and ends it; a trial whose worker is gone waits again. SQLite does for one machine, PostgreSQL for many.

A machine that takes over another's trial has no checkpoint of it, unless the folder is shared, and begins it anew. That
gives the same result, since a trial is computed from what is asked, its key and the outcomes before it alone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from conveyor.errors import BadInput

GRACE = 60.0  # seconds without a new word after which a worker of another machine is taken for dead
PATIENCE = 60.0  # seconds for which a database that is away is tried again
FIRST = 10.0  # seconds, where nobody is there when it is first looked for: its name may be wrong
STALLED = 5.0  # seconds in which who writes a ledger down writes something, or has died
CURE = "pip install 'conveyor[compare]'"
SERVER_CURE = "pip install 'conveyor[cluster]'"
# What no patience mends, as PostgreSQL and SQLite say it in English; what they say otherwise is tried for a minute.
HOPELESS = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|permission denied|"
    "Name or service not known|does not support SSL|invalid connection option|is not a database|disk is full"
)
# For PostgreSQL. What a machine that vanished left behind is given up: its connection, and the rows that it locked.
SERVER = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c idle_in_transaction_session_timeout=30s",
}
# What the ledger needs of each trial, in one query; Optuna reads everything of every trial, in some queries a study.
ENTRIES = """
SELECT trials.trial_id, trials.study_id, trials.state, "trial".value_json, "more".value_json
FROM trials
JOIN trial_user_attributes AS "trial" ON "trial".trial_id = trials.trial_id AND "trial".key = 'trial'
LEFT JOIN trial_user_attributes AS "more" ON "more".trial_id = trials.trial_id AND "more".key = :more
WHERE trials.study_id IN :studies AND trials.state <> 'PRUNED'
ORDER BY trials.trial_id
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

    trial: int  # its number in the database
    pair: tuple[str, str]
    order: int  # of the pair among all
    key: Key
    losses: int  # how often it has been lost with its worker
    state: str  # WAITING, RUNNING, COMPLETE or FAIL
    more: Any  # what was asked for: of its worker, or of what came out

    @property
    def ended(self) -> bool:
        return self.state in ("COMPLETE", "FAIL")


@dataclass(frozen=True)
class Claim:
    """A trial that is this worker's to do."""

    trial: int
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

    @property
    def score(self) -> float:
        """What Optuna keeps of it, the smaller the better."""


class Asked(Protocol):
    """What a ledger must know of what is asked, be it a comparison or a search."""

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
    waiting: int
    running: int
    complete: int
    failed: int

    @property
    def ended(self) -> bool:
        return not self.waiting and not self.running


class Ledger:
    """The ledger of a question, as one process sees it.

        ledger = Ledger("sqlite:///report/ledger.db", question)
        ledger.open()                       # writes down all trials, or finds them
        while claim := ledger.claim():
            ledger.end(claim, outcome)

    Raises BadInput where the database has another question's trials, or refuses; Away where it stays away for a minute,
    or until `stopped` says that there is no time.
    """

    def __init__(self, url: str, question: Asked):
        self.question = question
        self.name = masked(url)
        self.studies: dict[tuple[str, str], int] = {}  # the database's numbers of them
        self.owner = f"{machine()}:{os.getpid()}:{born(os.getpid())}"
        self.heard: dict[
            int, tuple[str, float]
        ] = {}  # its worker's last word on each trial that runs, and when it came
        self.stopped: Callable[[], bool] = lambda: False
        self.known = False  # whether the database has been reached
        self.storage: Any = self.call(connect, url)
        self.known = True

    # what a process does with it

    def open(self) -> None:
        """Every trial of the question is in the database; one that was written down in part is completed."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        asked = self.question.to_json()
        for task, cell in self.question.pairs():
            name = f"{task}/{cell}"
            try:
                study = self.call(self.storage.create_new_study, [StudyDirection.MINIMIZE], name)
                self.call(self.storage.set_study_user_attr, study, "question", asked)
                self.fill((task, cell), study, self.question.trial_keys())
            except DuplicatedStudyError:
                study = self.call(self.storage.get_study_id_from_name, name)
                self.await_question(study, name, asked)
            self.studies[task, cell] = study
        self.await_trials()
        self.complete()

    def claim(self) -> Claim | None:
        """A trial to do, or None if none waits."""
        for entry in self.question.ready(self.entries()):
            if self.call(self.take, entry.trial):
                claim = self.question.claim(entry, self.outcomes)
                if isinstance(claim, Claim):
                    self.beat(claim)
                    return claim
                self.end(entry, claim)
        return None

    def beat(self, claim: Claim) -> None:
        """Says that the worker is alive."""
        word = {"owner": self.owner, "at": time.time()}
        self.call(self.storage.set_trial_user_attr, claim.trial, "beat", word)

    def end(self, claim: Claim | Entry, outcome: Any) -> bool:
        """Writes down what came out; False if the trial was taken over, and so is no longer this worker's."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        def write() -> bool:
            try:
                self.storage.set_trial_user_attr(claim.trial, "outcome", asdict(outcome))
                if outcome.failed:
                    self.storage.set_trial_state_values(claim.trial, TrialState.FAIL)
                else:
                    self.storage.set_trial_state_values(claim.trial, TrialState.COMPLETE, [outcome.score])
            except UpdateFinishedTrialError:
                return False
            return True

        return self.call(write)

    def release(self, claim: Claim, lost: bool = False) -> None:
        """The trial waits again. `lost`: since its worker is gone, which counts."""
        self.again(claim.trial, (claim.task, claim.cell), claim.key, claim.losses + lost)

    def recover(self) -> int:
        """Trials whose workers are gone wait again: how many."""
        entries = self.entries("beat")
        running = [entry for entry in entries if entry.state == "RUNNING"]
        self.heard = {entry.trial: self.word(entry) for entry in running}
        found = [entry for entry in running if self.gone(entry)]
        for entry in found:
            self.again(entry.trial, entry.pair, entry.key, entry.losses + 1)
        if len(entries) < self.wanted:  # who was to write one down anew has died on the way
            self.complete()
        return len(found)

    def counts(self) -> Counts:
        states = Counter(entry.state for entry in self.entries())
        running, complete, failed = (states[name] for name in ("RUNNING", "COMPLETE", "FAIL"))
        return Counts(self.wanted - running - complete - failed, running, complete, failed)

    def outcomes(self) -> list[Any]:
        """Of all trials that have ended, in the order of the question."""
        ended = [entry for entry in self.entries("outcome") if entry.ended]
        ended.sort(key=lambda e: (e.order, e.key.repeat, e.key.index))
        return [self.question.outcome(entry.more) for entry in ended]

    def rest(self) -> None:
        """Closes its connection; the next call opens another. A server bears few, and none outlives a fork."""
        self.storage.engine.dispose()

    # how it is kept

    @property
    def wanted(self) -> int:
        return len(self.question.trial_keys()) * len(self.studies)

    def call(self, do: Callable[..., T], *arguments: Any) -> T:
        """Does it, and again with longer and longer pauses while the database is away. Raises Away after a minute."""
        try:
            from optuna.exceptions import StorageInternalError
            from sqlalchemy.exc import DBAPIError
        except ImportError as error:
            raise BadInput(f"the ledger needs {error.name}: {CURE}") from error
        began, pause = time.monotonic(), 0.1
        while True:
            try:
                return do(*arguments)
            except (StorageInternalError, DBAPIError) as error:
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

    def entries(self, more: str = "") -> list[Entry]:
        """Of each trial the entry that counts: those that were lost have one after them."""
        found: dict[tuple[tuple[str, str], Key], Entry] = {}
        pairs = {study: (pair, order) for order, (pair, study) in enumerate(self.studies.items())}
        for trial, study, state, text, words in self.call(self.read, list(pairs), more):
            key = json.loads(text)
            losses = key.pop("losses")
            entry = Entry(trial, *pairs[study], Key(**key), losses, state, words and json.loads(words))
            found.setdefault((entry.pair, entry.key), entry)
        return list(found.values())

    def read(self, studies: list[int], more: str) -> list[Any]:
        from sqlalchemy import bindparam, text

        query = text(ENTRIES).bindparams(bindparam("studies", expanding=True))
        with self.storage.engine.connect() as connection:
            return list(connection.execute(query, {"studies": studies, "more": more}))

    def await_question(self, study: int, name: str, asked: str) -> None:
        """Who created the study writes its question down at once; one of another question is refused."""
        for _ in range(int(STALLED / 0.1)):
            found = self.call(self.storage.get_study_user_attrs, study).get("question")
            if found == asked:
                return
            if found is not None:
                raise BadInput(
                    f"{self.name} already has another comparison or search: change what is asked back, or name "
                    "another folder with --out and another database"
                )
            time.sleep(0.1)
        self.call(self.storage.set_study_user_attr, study, "question", asked)  # its creator died on the way

    def await_trials(self) -> None:
        """Others that started at the same time write down the trials of the studies that they created."""
        there, since = len(self.entries()), time.monotonic()
        while there < self.wanted and time.monotonic() - since < STALLED:
            time.sleep(0.1)
            if (now := len(self.entries())) > there:
                there, since = now, time.monotonic()

    def complete(self) -> None:
        """Writes down the trials that are not there. What two write down counts once: the first."""
        there = {(entry.pair, entry.key) for entry in self.entries()}
        for pair, study in self.studies.items():
            self.fill(pair, study, [key for key in self.question.trial_keys() if (pair, key) not in there])

    def fill(self, pair: tuple[str, str], study: int, keys: list[Key]) -> None:
        for key in keys:
            self.call(self.storage.create_new_trial, study, waiting(key, 0))

    def take(self, trial: int) -> bool:
        """Whether this worker is the one that has it now; another may have taken it, and even have ended it."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            return bool(self.storage.set_trial_state_values(trial, TrialState.RUNNING))
        except UpdateFinishedTrialError:
            return False

    def again(self, trial: int, pair: tuple[str, str], key: Key, losses: int) -> None:
        """Ends a trial as lost, if it has not ended, and writes it down anew."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.call(self.storage.set_trial_state_values, trial, TrialState.PRUNED)  # which stands for lost here
        except UpdateFinishedTrialError:
            return
        self.call(self.storage.create_new_trial, self.studies[pair], waiting(key, losses))

    def word(self, entry: Entry) -> tuple[str, float]:
        """What the worker of a trial that runs said last, and since when it is known here, by this machine's clock."""
        now, last = json.dumps(entry.more), self.heard.get(entry.trial)
        return last if last is not None and last[0] == now else (now, time.monotonic())

    def gone(self, entry: Entry) -> bool:
        """Whether the worker that runs it is: it has ended on this machine, or said nothing new for a minute."""
        if entry.more is not None:  # else it was claimed a moment ago, or its worker died in that moment
            where, number, at = entry.more["owner"].rsplit(":", 2)
            if where == machine():
                return born(int(number)) != at
        return time.monotonic() - self.heard[entry.trial][1] > GRACE


def waiting(key: Key, losses: int) -> Any:
    """A trial that waits."""
    from optuna.trial import TrialState, create_trial

    return create_trial(state=TrialState.WAITING, user_attrs={"trial": asdict(key) | {"losses": losses}})


def connect(url: str) -> Any:
    """Optuna's storage. Raises BadInput where Optuna, or a driver, is missing, and for a URL that is none."""
    import optuna
    from sqlalchemy.exc import ArgumentError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return storage(re.sub("^postgres(ql)?://", "postgresql+psycopg://", url))
    except ImportError as error:
        cure = SERVER_CURE if url.startswith("postgres") else "install its driver for SQLAlchemy"
        raise BadInput(f"the database {masked(url)} needs a driver that is not installed: {cure}") from error
    except (ArgumentError, ValueError) as error:
        cure = "sqlite:///file.db and postgresql://user@host/name are such URLs"
        raise BadInput(f"the database {masked(url)} cannot be used: {masked(str(error))}; {cure}") from error
    except RuntimeError as error:  # another version of Optuna made its tables
        raise BadInput(f"the database {masked(url)} cannot be used: {error}") from error


def storage(url: str) -> Any:
    import optuna
    import sqlalchemy

    if sqlalchemy.make_url(url).get_backend_name() == "sqlite":
        made = optuna.storages.RDBStorage(braced(url), engine_kwargs={"connect_args": {"timeout": 60}})
        # A claim reads a trial's state and then writes it. SQLite locks by the first write, so that two workers could
        # both read "waiting": here a transaction locks when it begins.
        made.engine.dispose()
        listen = sqlalchemy.event.listen
        listen(made.engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        listen(made.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return made
    # PostgreSQL locks the row of a trial when it is read for that.
    known = {name: value for name, value in SERVER.items() if name not in sqlalchemy.make_url(url).query}
    arguments = known if "+psycopg" in url else {}
    return optuna.storages.RDBStorage(braced(url), engine_kwargs={"connect_args": arguments, "pool_size": 1})


def braced(url: str) -> str:
    """For Optuna, which fills in what stands in braces."""
    return url.replace("{", "{{").replace("}", "}}")


def masked(text: str) -> str:
    """A URL, or what was said of it, without its password."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]*", r"\1***", text)


def said(error: Exception) -> str:
    """What the database said, in one line."""
    cause = error.__cause__ or error
    return " ".join(masked(str(getattr(cause, "orig", None) or cause)).split())[:300]


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
