"""One thread, so that workers do not fight for cores, and examples that are the same on every machine.

With EXAMPLES=500 in the environment, as many examples as that, and others every time.
"""

import os
import signal

import hypothesis
import pytest
import torch

import browser as browsers
from pages import Page

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background, and tests send it
os.environ.setdefault("CONVEYOR_CHECKS", "nan")  # what a kernel reads before it has written it is NaN
EXAMPLES = os.environ.get("EXAMPLES")
hypothesis.settings.register_profile(
    "conveyor", deadline=None, derandomize=EXAMPLES is None, max_examples=int(EXAMPLES or 25)
)
hypothesis.settings.load_profile("conveyor")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as found:
        yield found


@pytest.fixture
def here(browser):
    """A page in the browser; at the end it must have had no error."""
    yield Page(browser)
    browser.check()
