"""One thread, so that workers do not fight for cores, and examples that are the same on every machine.

With EXAMPLES=500 in the environment, as many examples as that, and others every time. With --all, the slow tests, too.
"""

import os
import signal

import hypothesis
import pytest
import torch

import browser as browsers
import tiers
from conveyor.explain.drawing.layout import WORK, lay_out
from conveyor.layer import kernels
from conveyor.targets.cpu import loading
from pages import Page

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background, and tests send it
os.environ.setdefault("CONVEYOR_CHECKS", "nan")  # what a kernel reads before it has written it is NaN
EXAMPLES = os.environ.get("EXAMPLES")
hypothesis.settings.register_profile(
    "conveyor", deadline=None, derandomize=EXAMPLES is None, max_examples=int(EXAMPLES or 25)
)
hypothesis.settings.load_profile("conveyor")


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="the slow tests, too, with kernels compiled as users have them")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs with --all only; tests/tiers.py says what is slow")
    tiers.begin(config.option.all)


def pytest_collection_modifyitems(config, items):
    if not config.option.all:
        left_out = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def as_users_have_them(monkeypatch):
    """Kernels compiled, and pictures laid out, as outside the tests."""
    if os.environ.get(tiers.FLAGS) == tiers.CHEAP:
        monkeypatch.delenv(tiers.FLAGS)
    monkeypatch.setattr(lay_out, "__defaults__", (WORK,))
    for made in (kernels.shared_kernels, loading.runtime):
        made.cache_clear()
    yield
    for made in (kernels.shared_kernels, loading.runtime):
        made.cache_clear()


@pytest.fixture(scope="session")
def browser():
    with browsers.started() as found:
        yield found


@pytest.fixture
def here(browser):
    """A page in the browser; at the end it must have had no error."""
    yield Page(browser)
    browser.check()
