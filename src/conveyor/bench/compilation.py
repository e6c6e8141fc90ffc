"""How long it takes to compile the kernels of a cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

SCRIPT = """
import json, sys, time
import torch
import conveyor
from conveyor.zoo.find import find

layer = conveyor.Recurrent(find(sys.argv[1]), 32, 128)
x = torch.randn(3, 2, 32)
with conveyor.backend("eager"):
    layer(x)[0].sum().backward()  # the one-time initialisation of PyTorch
with conveyor.backend("compiled"):
    began = time.perf_counter()
    layer(x)[0].sum().backward()
    print(json.dumps(time.perf_counter() - began))
"""


def compilation_seconds(cell: str) -> dict[str, float]:
    """Seconds of a first training step with an empty cache ("first") and with cached kernels ("from the cache").

    Each runs in a new process; the cache is a temporary folder. Empty for a cell that has no kernel.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for kind in ("first", "from the cache"):
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            command = [sys.executable, "-c", SCRIPT, cell]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                return {}
            found[kind] = json.loads(done.stdout.splitlines()[-1])
        return found
