"""Layers in processes that are forked or spawned, and in several threads at once."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import conveyor
from cases import CASES
from conveyor.targets import build_once
from conveyor.targets.c import build
from tiers import slow

HANGS = 100  # seconds


def built_anew(width, tmp_path, monkeypatch):
    """A layer whose kernels nobody has made: an empty folder, and no kernel of this process for such a step."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CONVEYOR_BACKEND", "compiled")
    build._load.cache_clear()
    return CASES["gru"].layer(3, width, dtype=torch.float64)


def result(layer, seed=0):
    """The output and the gradients, as one tensor."""
    x = torch.randn(6, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    output = layer(x)[0]
    gradients = torch.autograd.grad(output.square().sum(), list(layer.parameters()))
    return torch.cat([value.detach().flatten() for value in (output, *gradients)])


class Results(Dataset):
    """What a layer gives, computed by whoever asks."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return result(self.layer, i)


@pytest.mark.parametrize(
    ("how", "used"),
    [("fork", False), ("fork", True), ("spawn", False), pytest.param("spawn", True, marks=slow)],
)
def test_workers_have_what_the_process_has_that_began_them(how, used, tmp_path, monkeypatch):
    layer = built_anew(7 + used + 2 * (how == "fork"), tmp_path, monkeypatch)
    if used:
        torch.set_num_threads(2)
        result(layer)
        torch.set_num_threads(1)
    found = list(DataLoader(Results(layer), batch_size=None, num_workers=2, multiprocessing_context=how, timeout=HANGS))
    for i, value in enumerate(found):
        assert torch.equal(value, result(layer, i))


def test_a_process_may_be_forked_while_a_thread_builds():
    begun = threading.Event()

    def slow():
        with build_once.BuildOnce():
            begun.set()
            ready.wait(0.5)

    ready = threading.Event()
    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        os._exit(0 if build_once.BUILDING.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()


def test_threads_that_come_at_once_build_a_kernel_once(tmp_path, monkeypatch):
    layer = built_anew(11, tmp_path, monkeypatch)
    run, calls, together = build._run, [], threading.Barrier(8)
    monkeypatch.setattr(build, "_run", lambda *given: calls.append(1) or run(*given))

    def work(seed):
        together.wait()
        with conveyor.backend("compiled"):
            return [result(layer, seed) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8), timeout=HANGS))
    assert len(calls) <= 3  # forward and backward, and the runtime if no test has needed it before
    for seed, values in enumerate(found):
        for value in values:
            assert torch.equal(value, result(layer, seed))


def test_threads_that_change_sizes_and_kernels_do_not_disturb_each_other():
    layers = [CASES[name].layer(3, 5, dtype=torch.float64) for name in ("lstm", "gru", "own")]
    together = threading.Barrier(6)

    def work(k):
        together.wait()
        found = []
        with conveyor.backend("compiled"):
            for i in range(40):
                x = torch.full((1 + (i * 7 + k) % 30, 2, 3), 0.5, dtype=torch.float64)
                found.append((x, layers[(i + k) % 3](x)[0].detach()))
        return found

    with ThreadPoolExecutor(6) as pool:
        everything = list(pool.map(work, range(6), timeout=HANGS))
    for k, found in enumerate(everything):
        for i, (x, output) in enumerate(found):
            assert torch.equal(output, layers[(i + k) % 3](x)[0])


@pytest.fixture(autouse=True)
def _compiled():
    with conveyor.backend("compiled"):
        yield
