"""The one table of tolerances: how far a result may be from what it must equal, relative to its largest value or 1."""

import torch

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}


def assert_equal(actual, expected, what="result"):
    """Within the tolerance of the actual tensor's type. A NaN is equal to nothing."""
    expected = torch.as_tensor(expected)
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype}, not {expected.dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {list(actual.shape)}, not {list(expected.shape)}"
    if actual.numel():
        error = (actual - expected).abs().max().item()
        bound = TOLERANCE[actual.dtype] * max(1.0, expected.abs().max().item())
        assert error <= bound, f"{what}: off by {error:.3g}, more than {bound:.3g}"
