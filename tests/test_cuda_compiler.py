"""NVRTC takes every kernel for GPUs of three generations, and they stay within their registers."""

import sys

import pytest

from conveyor import compile
from conveyor.targets.cuda import nvrtc
from conveyor.targets.cuda.driver import headers, options
from conveyor.zoo import CELLS
from tiers import quick

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NVRTC is installed with the tests on Linux only")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
MOST_REGISTERS = 224  # a multiprocessor has 256 for each thread of a block of 256


@pytest.mark.parametrize("name", quick(CELLS, ["lstm", "gru", "mut1"]))
def test_the_kernels_of_a_cell_compile_without_spills(name):
    number = list(CELLS).index(name)
    double = number % 4 == 1
    sources = compile(CELLS[name](4, 12), target="cuda").sources
    for text, direction in zip(sources, ("forward", "backward"), strict=True):
        found = nvrtc.resources(text, headers(), ARCHITECTURES[number % 3], options(double))
        assert len(found) == text.count("KERNEL(")
        for kernel, taken in found.items():
            assert (taken.spilled, taken.stack, taken.shared) == (0, 0, 0), f"{direction}, {kernel}: {taken}"
            assert taken.registers <= MOST_REGISTERS, f"{direction}, {kernel}: {taken}"


def test_a_gpu_that_is_newer_than_the_compiler_gets_what_its_driver_translates():
    newest = nvrtc.architectures()[-1]
    assert nvrtc.architecture(newest) == f"sm_{newest}"
    assert nvrtc.architecture(newest + 10) == f"compute_{newest}"
    image, _ = nvrtc.compile('extern "C" __global__ void nothing() {}', {}, f"compute_{newest}")
    assert b".visible .entry nothing" in image


def test_what_the_compiler_does_not_take_is_told():
    with pytest.raises(nvrtc.CannotBuild, match=r"NVRTC fails \(error 6\)[\s\S]*identifier \"nothing\" is undefined"):
        nvrtc.compile('extern "C" __global__ void k(float *x) { *x = nothing; }', {}, "sm_90")
