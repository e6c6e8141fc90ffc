"""The ledger of many machines, on a PostgreSQL of its own: claims, kills, a server that goes away and comes back."""

import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch

import server as postgresql
from comparisons import (
    SMALL,
    asked,
    begin,
    children,
    claimed_at_once,
    done,
    kill,
    ledger,
    succeeds,
    until,
    values,
    work,
)
from conveyor.compare.ledger import Ledger, connect, masked
from conveyor.compare.study import ComparisonConfig
from conveyor.errors import BadInput
from tiers import slow

pytestmark = [slow, pytest.mark.xdist_group("postgresql")]  # one server, whose machine is not given more to do
ASKED = replace(SMALL, tasks=("lag:5",), steps=100, batch_size=32)  # what machine() asks
IMPATIENT = "from conveyor.compare import ledger; ledger.PATIENCE = 1.0; from conveyor.cli import main; main()"


@pytest.fixture(scope="module")
def server():
    with postgresql.running() as server:
        yield server


@pytest.fixture
def url(server, request):
    """Of a new database."""
    return server.create(f"of_{abs(hash(request.node.name))}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What comes out in a ledger of SQLite, in this process."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("undisturbed")
    asked(folder, ASKED)
    work(folder, ledger(folder, ASKED))
    return values(folder)


# claims


def test_a_ledger_is_the_same_as_in_sqlite(url, tmp_path):
    """Also for a worker that is gone: what it says later does not count."""
    said = []
    for where in (url, tmp_path):
        book = ledger(where)
        lost = book.claim()
        book.release(lost, lost=True)
        assert not book.end(lost, done(lost, 0.9))
        claims = []
        while claim := book.claim():
            claims.append(replace(claim, trial=0))
            book.end(claim, done(claim, [0.4, 0.3][claim.key.index]))
            book.rest()
        said.append((claims, book.counts(), book.outcomes()))
        book.rest()
    assert said[0] == said[1]
    assert said[0][1].ended


def test_four_processes_claim_every_trial_once(url):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["comparisons"])
    config = ComparisonConfig(tasks=("adding:24", "lag:5"), cells=("rnn", "gru"), trials=25, seeds=0)
    claims = claimed_at_once(context, 4, url, config)
    assert len(claims) == 100
    assert set(claims.values()) == {1}
    book = ledger(url, config)
    ended = {(o.task, o.cell, o.index) for o in book.outcomes()}
    book.rest()
    assert len(ended) == 100


# what cannot heal is said at once, and without the password


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("opensesame", "open-says-me"), "password authentication failed"),
        (("conveyor:", "stranger:"), "password authentication failed"),
        (("/postgres", "/nothing"), 'database "nothing" does not exist'),
        (("postgresql:", "postgresql+pg8000:"), "needs a driver that is not installed"),
        (("postgresql:", "postgrsql:"), "give a URL such as"),
        (("127.0.0.1:", "127.0.0.1:x"), "give a URL such as"),
        (("/postgres", "/postgres?sslmode=require"), "does not support SSL"),
        (("postgresql:", "postgres:"), None),
        (("postgresql:", "postgresql+psycopg:"), None),
    ],
)
def test_a_wrong_url_is_named_at_once(server, wrong, said):
    url = server.url("postgres").replace(*wrong)
    began = time.monotonic()
    if said is None:
        Ledger(url, SMALL).rest()
        return
    with pytest.raises(BadInput, match=said) as error:
        Ledger(url, SMALL)
    assert time.monotonic() - began < 5
    assert "sesame" not in str(error.value)
    assert "open-says-me" not in str(error.value)
    assert "\n" not in str(error.value)


def test_without_its_driver_the_cure_is_said(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[cluster\]'"):
        connect(server.url("postgres"))


def test_passwords_are_masked():
    assert masked("postgresql://me:p@ss:w/rd@host:1/name") == "postgresql://me:***@host:1/name"
    assert masked("postgresql://me@host/name?password=secret&sslmode=require") == (
        "postgresql://me@host/name?password=***&sslmode=require"
    )
    assert masked("sqlite:////home/me/report/ledger.db") == "sqlite:////home/me/report/ledger.db"


# the commands


def machine(folder, url, workers=1, **keywords):
    """The same command on one more machine, which has its own folder: six trials in all."""
    return begin(folder, "--database", url, tasks="lag:5", workers=workers, **keywords)


def test_two_machines_share_the_work_and_each_writes_the_report(url, tmp_path, undisturbed):
    folders = [tmp_path / "one" / "report", tmp_path / "two" / "report"]
    machines = [machine(folder, url) for folder in folders]
    workers = [children(process.pid) for process in machines]
    for process in machines:
        assert "opensesame" not in succeeds(process)
    assert values(folders[0], url) == undisturbed
    runs = [{str(run.parent.relative_to(folder)) for run in folder.glob("runs/*/*/*/results")} for folder in folders]
    assert all(runs), workers
    assert len(runs[0] | runs[1]) == len(runs[0]) + len(runs[1]) == 6
    reports = [(folder / "report.md").read_text() for folder in folders]
    assert reports[0] == reports[1]


def test_whatever_is_killed_every_trial_ends_once_with_the_same_results(url, tmp_path, undisturbed):
    """A worker, then everything of one machine; what it was at is begun anew on the other."""
    folders, chance = [tmp_path / "one", tmp_path / "two"], random.Random(0)
    machines = [machine(folder, url) for folder in folders]
    until(folders[0], machines[0], 1)
    time.sleep(chance.uniform(0, 0.5))
    kill(children(machines[0].pid)[:1])
    until(folders[1], machines[1], 2)
    time.sleep(chance.uniform(0, 0.5))
    kill([machines[1].pid, *children(machines[1].pid)])
    machines[1].communicate(timeout=60)
    succeeds(machines[0])
    assert values(folders[0], url) == undisturbed


def test_a_server_that_goes_away_is_waited_for_and_then_named(server, url, tmp_path, undisturbed):
    """It is killed twice: for longer than one command has patience, and not so long."""
    folder = tmp_path / "report"
    process = machine(folder, url, workers=2, start=IMPATIENT)
    until(folder, process, 1)
    server.kill()
    said, _ = process.communicate(timeout=60)
    lines = [line for line in said.splitlines() if "trials done" not in line]
    server.start()
    assert process.returncode == 2, said
    assert len(lines) == 1, said
    assert "cannot be reached" in lines[0]
    assert "start again when it is available" in lines[0]
    assert "opensesame" not in said

    process = machine(folder, url, workers=2)
    until(folder, process, 3)
    server.kill()
    time.sleep(2)
    server.start()
    succeeds(process)
    assert values(folder, url) == undisturbed


def test_ctrl_c_ends_while_the_server_is_away(server, url, tmp_path):
    folder = tmp_path / "report"
    process = machine(folder, url)
    until(folder, process, 1)
    server.kill()
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    server.start()
    assert process.returncode == 2, said
    assert "nothing is lost" in said
    assert "Traceback" not in said
