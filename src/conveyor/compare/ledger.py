"""Who does which trial: a ledger in a database, one Optuna study for each task and cell.

Every trial of a comparison stands in it from the start, waiting. A worker claims one, says now and then that it is
alive, and ends it; a trial whose worker is gone waits again. SQLite does for one machine, PostgreSQL for many.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from conveyor.compare.outcomes import Outcome
from conveyor.compare.study import Question
from conveyor.errors import BadInput

GRACE = 60.0  # seconds without a word after which a worker of another machine is taken for dead
PATIENCE = 60.0  # seconds for which a database that is away is tried again
CURE = "pip install 'conveyor[compare]'"
T = TypeVar("T")


@dataclass(frozen=True)
class Key:
    """Which trial of its task and cell: a configuration of the search, or a repeat of the best one."""

    index: int
    repeat: bool

    def __str__(self) -> str:
        return f"{'repeat' if self.repeat else 'trial'}-{self.index}"


@dataclass(frozen=True)
class Claim:
    """A trial that is this worker's to do."""

    trial: int  # its number in the database
    task: str
    cell: str
    key: Key
    seed: int
    settings: dict[str, Any]
    losses: int  # how often it has been lost with its worker


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

    Raises BadInput where the database has another question's trials, or stays away for a minute.
    """

    def __init__(self, url: str, question: Question):
        self.question = question
        self.storage: Any = patient(url, connect, url)
        self.url = url
        self.studies: dict[tuple[str, str], int] = {}  # the database's numbers of them
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{born(os.getpid())}"

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
            except DuplicatedStudyError:
                study = self.call(self.storage.get_study_id_from_name, name)
                self.await_question(study, name, asked)
            self.studies[task, cell] = study
        for pair, study in self.studies.items():
            self.call(self.fill, study, *pair)

    def claim(self) -> Claim | None:
        """A trial to do, or None if none waits; the search goes before the repeats, and all cells and tasks in turn."""
        from optuna.trial import TrialState

        waiting = []
        for order, (pair, study) in enumerate(self.studies.items()):
            trials = self.trials(study)
            searched = all(t.state.is_finished() for t in latest(trials) if not key(t).repeat)
            for trial in latest(trials):
                if trial.state == TrialState.WAITING and (searched or not key(trial).repeat):
                    waiting.append(((key(trial).repeat, key(trial).index, order), pair, trial))
        for _, pair, trial in sorted(waiting, key=lambda one: one[0]):
            if self.call(self.take, trial._trial_id):
                claim = self.claimed(pair, trial)
                if claim is None:
                    continue
                self.beat(claim)
                return claim
        return None

    def beat(self, claim: Claim) -> None:
        """Says that the worker is alive."""
        word = {"owner": self.owner, "at": time.time()}
        self.call(self.storage.set_trial_user_attr, claim.trial, "beat", word)

    def end(self, claim: Claim, outcome: Outcome) -> bool:
        """Writes down what came out; False if the trial was taken over, and so is no longer this worker's."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        def write() -> bool:
            try:
                self.storage.set_trial_user_attr(claim.trial, "outcome", asdict(outcome))
                if outcome.failed:
                    self.storage.set_trial_state_values(claim.trial, TrialState.FAIL)
                else:
                    self.storage.set_trial_state_values(claim.trial, TrialState.COMPLETE, [outcome.validation])
            except UpdateFinishedTrialError:
                return False
            return True

        return self.call(write)

    def release(self, claim: Claim, lost: bool = False) -> None:
        """The trial waits again. `lost`: since its worker is gone, which counts."""
        study = self.studies[claim.task, claim.cell]
        self.call(self.again, study, claim.trial, claim.losses + lost)

    def recover(self) -> int:
        """Trials whose workers are gone wait again: how many."""
        from optuna.trial import TrialState

        found = 0
        for study in self.studies.values():
            for trial in self.trials(study):
                if trial.state == TrialState.RUNNING and gone(trial):
                    losses = trial.user_attrs["losses"] + 1
                    found += bool(self.call(self.again, study, trial._trial_id, losses))
        return found

    def counts(self) -> Counts:
        from optuna.trial import TrialState

        states = [trial.state for study in self.studies.values() for trial in latest(self.trials(study))]
        of = [states.count(s) for s in (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL)]
        return Counts(*of)

    def outcomes(self) -> list[Outcome]:
        """Of all trials that have ended, in the order of the question."""
        found = []
        for study in self.studies.values():
            ended = [trial for trial in latest(self.trials(study)) if trial.state.is_finished()]
            for trial in sorted(ended, key=lambda t: (key(t).repeat, key(t).index)):
                outcome = dict(trial.user_attrs["outcome"])
                outcome["curve"] = tuple(tuple(point) for point in outcome["curve"])
                found.append(Outcome(**outcome))
        return found

    # how it is kept

    def call(self, do: Callable[..., T], *arguments: Any) -> T:
        return patient(self.url, do, *arguments)

    def trials(self, study: int) -> list[Any]:
        return self.call(self.storage.get_all_trials, study, False)

    def await_question(self, study: int, name: str, asked: str) -> None:
        """Who created the study writes its question down at once; one of another question is refused."""
        for _ in range(50):
            found = self.call(self.storage.get_study_user_attrs, study).get("question")
            if found == asked:
                return
            if found is not None:
                raise BadInput(
                    f"{self.url} already has a comparison that asks otherwise: change what is asked back, or name "
                    "another folder with --out and another database"
                )
            time.sleep(0.1)
        self.call(self.storage.set_study_user_attr, study, "question", asked)  # its creator died on the way

    def fill(self, study: int, task: str, cell: str) -> None:
        """Writes down those of its trials that are not there yet."""
        there = {key(trial) for trial in latest(self.storage.get_all_trials(study, deepcopy=False))}
        wanted = [Key(i, False) for i in range(self.question.trials)] + [
            Key(i, True) for i in range(self.question.seeds)
        ]
        for one in wanted:
            if one not in there:
                self.storage.create_new_trial(study, self.waiting(one, 0))

    def waiting(self, one: Key, losses: int) -> Any:
        """A trial that waits."""
        from optuna.distributions import FloatDistribution, IntDistribution
        from optuna.trial import TrialState, create_trial

        from conveyor.compare.study import RANGES

        kinds: dict[str, Any] = {
            name: (IntDistribution if r.whole else FloatDistribution)(r.low, r.high, log=r.log)
            for name, r in RANGES.items()
        }
        settings = {} if one.repeat else self.question.configuration(one.index)
        attributes = {"index": one.index, "repeat": one.repeat, "losses": losses}
        return create_trial(
            state=TrialState.WAITING,
            params=settings,
            distributions={} if one.repeat else kinds,
            user_attrs=attributes,
        )

    def take(self, trial: int) -> bool:
        """Whether this worker is the one that has it now; another may have taken it, and even have ended it."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            return bool(self.storage.set_trial_state_values(trial, TrialState.RUNNING))
        except UpdateFinishedTrialError:
            return False

    def again(self, study: int, trial: int, losses: int) -> bool:
        """Ends a trial as lost, if it has not ended, and writes it down anew."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        one = key(self.storage.get_trial(trial))
        try:
            self.storage.set_trial_state_values(trial, TrialState.PRUNED)  # which stands for lost here
        except UpdateFinishedTrialError:
            return False
        self.storage.create_new_trial(study, self.waiting(one, losses))
        return True

    def claimed(self, pair: tuple[str, str], trial: Any) -> Claim | None:
        """What there is to do for a trial; None if it is a repeat of a search in which every trial failed."""
        one, question = key(trial), self.question
        task, cell = pair
        claim = Claim(trial._trial_id, task, cell, one, question.seed, {}, trial.user_attrs["losses"])
        if not one.repeat:
            return Claim(**{**vars(claim), "settings": question.configuration(one.index)})
        seed = question.fresh_seed(one.index)
        searched = [o for o in self.outcomes() if (o.task, o.cell, o.repeat) == (task, cell, False)]
        good = [o for o in searched if o.validation is not None]
        if not good:
            why = "no configuration of the search came to an end"
            self.end(claim, Outcome(task, cell, one.index, seed, True, {}, None, None, error=why))
            return None
        best = min(good, key=lambda o: (o.validation, o.index))
        return Claim(**{**vars(claim), "seed": seed, "settings": best.settings})


def connect(url: str) -> Any:
    """Optuna's storage. Raises BadInput where Optuna, or a driver, is missing."""
    try:
        import optuna
        from sqlalchemy import event
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise BadInput(f"conveyor compare needs {error.name}: {CURE}") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except (ImportError, ArgumentError) as error:
        raise BadInput(f"the database {url} cannot be used: {error}") from error
    if url.startswith("sqlite"):
        # A claim reads a trial's state and then writes it. SQLite locks by the first write, so that two workers could
        # both read "waiting": here a transaction locks when it begins.
        storage.engine.dispose()
        event.listen(storage.engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def patient(url: str, do: Callable[..., T], *arguments: Any) -> T:
    """Does it, and again with longer and longer pauses while the database is away. Raises BadInput after a minute."""
    try:
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import DBAPIError
    except ImportError as error:
        raise BadInput(f"conveyor compare needs {error.name}: {CURE}") from error
    began, pause = time.monotonic(), 0.1
    while True:
        try:
            return do(*arguments)
        except (StorageInternalError, DBAPIError) as error:
            if time.monotonic() - began > PATIENCE:
                reason = str(error.__cause__ or error).strip().splitlines()[0]
                raise BadInput(
                    f"the database {url} cannot be reached: {reason}; nothing is lost: start again when it is back"
                ) from error
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def key(trial: Any) -> Key:
    return Key(trial.user_attrs["index"], trial.user_attrs["repeat"])


def latest(trials: list[Any]) -> list[Any]:
    """Of each key the trial that counts: those that were lost have one after them."""
    from optuna.trial import TrialState

    found: dict[Key, Any] = {}
    for trial in trials:
        if trial.state != TrialState.PRUNED:
            found.setdefault(key(trial), trial)
    return list(found.values())


def gone(trial: Any) -> bool:
    """Whether the worker that runs it is: it has ended on this machine, or not been heard for a minute."""
    beat = trial.user_attrs.get("beat")
    if beat is None:  # claimed a moment ago, or its worker died in that moment
        begun = trial.datetime_start
        return begun is not None and time.time() - begun.timestamp() > GRACE
    host, number, at = beat["owner"].rsplit(":", 2)
    if host == socket.gethostname():
        return born(int(number)) != at
    return time.time() - beat["at"] > GRACE


def born(process: int) -> str:
    """When a process of this machine began, as the kernel has it; "" if there is none."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
