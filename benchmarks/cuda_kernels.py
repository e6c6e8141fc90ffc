"""What NVRTC makes of the kernels of every cell, for GPUs of three generations: no GPU is needed.

    pip install 'conveyor[cuda]'
    python benchmarks/cuda_kernels.py           # 3 to 8 minutes: a table in Markdown, as in docs/gpu.md

Forward and backward of each cell in float32, for any sizes. Registers are the most of any of its kernels.
"""

import time

from conveyor import compile
from conveyor.targets.cuda import nvrtc
from conveyor.targets.cuda.driver import headers, options
from conveyor.zoo import CELLS

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def row(name: str) -> str:
    """Of the table: a cell, and what its kernels take."""
    sources = compile(CELLS[name](4, 12), target="cuda").sources
    seconds, registers, spilled, shared = 0.0, [], 0, 0
    for architecture in ARCHITECTURES:
        start = time.perf_counter()
        found = [nvrtc.resources(text, headers(), architecture, options(double=False)) for text in sources]
        if architecture == "sm_90":
            seconds = time.perf_counter() - start
        every = [taken for one in found for taken in one.values()]
        registers.append(str(max(taken.registers for taken in every)))
        spilled += sum(taken.spilled + taken.stack for taken in every)
        shared += sum(taken.shared for taken in every)
    waits = " + ".join(str(text.count("  sync(&c);")) for text in sources)
    kernels = sum(text.count("KERNEL(") for text in sources)
    return f"| {name} | {kernels} | {waits} | {seconds:.1f} | {' | '.join(registers)} | {spilled} | {shared} |"


def main() -> None:
    """Prints the table."""
    heads = ["cell", "kernels", "barriers", "s, sm_90", *(f"registers, {one}" for one in ARCHITECTURES)]
    print(f"NVRTC {'.'.join(map(str, nvrtc.version()))}\n")
    print(f"| {' | '.join([*heads, 'spilled', 'shared'])} |\n|{'---|' * (len(heads) + 2)}")
    for name in CELLS:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
