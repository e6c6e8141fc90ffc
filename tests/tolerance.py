"""The one table of tolerances: how far a result may be from what it must equal, relative to its largest value or 1."""

import torch

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}
KERNEL = {torch.float64: 1e-10}  # a kernel's, from the loop over the step: it adds in another order
WORSE = 4  # how many times the loop's own largest error in float32 a kernel's may be


def assert_equal(actual, expected, what="result", table=TOLERANCE):
    """Within the tolerance of the actual tensor's type. A NaN is equal to nothing."""
    expected = torch.as_tensor(expected)
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype}, not {expected.dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {list(actual.shape)}, not {list(expected.shape)}"
    if actual.numel():
        error = (actual - expected).abs().max().item()
        bound = table[actual.dtype] * max(1.0, expected.abs().max().item())
        assert error <= bound, f"{what}: off by {error:.3g}, more than {bound:.3g}"


def relative_error(actual, exact):
    """The largest error of `actual`, relative to the largest value or 1."""
    if not actual.numel():
        return 0.0
    return (actual.double() - exact).abs().max().item() / max(1.0, exact.abs().max().item())


def assert_as_exact(actual, usual, exact, what="result"):
    """The error of `actual` is within the tolerance, or little larger than `usual`, one in the same type."""
    assert actual.shape == exact.shape, f"{what}: shape {list(actual.shape)}, not {list(exact.shape)}"
    error, bound = relative_error(actual, exact), max(WORSE * usual, TOLERANCE[actual.dtype])
    assert error <= bound, f"{what}: off by {error:.3g}, more than {bound:.3g}; the loop is off by up to {usual:.3g}"


def assert_same_kinds(actual, expected, what="result", as_one=False):
    """Infinite and NaN in the same places, and equal in all others, each relative to its own size or 1.

    `as_one`: one may stand for the other.
    """
    assert actual.shape == expected.shape, f"{what}: shape {list(actual.shape)}, not {list(expected.shape)}"
    bound = KERNEL[actual.dtype] * expected.abs().clamp(min=1)
    right = (actual - expected).abs() <= bound
    same = ~actual.isfinite() if as_one else (actual == expected) | (actual.isnan() & expected.isnan())
    right = torch.where(expected.isfinite(), right, same)
    wrong = [tuple(place.tolist()) for place in (~right).nonzero()[:5]]
    shown = [f"{what}{list(place)} = {actual[place].item()}, not {expected[place].item()}" for place in wrong]
    assert right.all(), f"{(~right).sum()} of {right.numel()}: " + "; ".join(shown)
