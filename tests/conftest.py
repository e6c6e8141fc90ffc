"""One thread, so that workers do not fight for cores, and examples that are the same on every machine."""

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("conveyor", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("conveyor")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
