"""The tests have the same names in every process and at every time, or those that share them would run none."""

import codecs
import os
import subprocess
import sys
import time
from pathlib import Path

from tiers import slow

ROOT = Path(__file__).parent.parent
LONGEST = 79


def collect():
    line = [sys.executable, "-m", "pytest", "--all", "--collect-only", "-p", "no:cacheprovider"]
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.Popen(line, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def names(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return [line for line in out.splitlines() if "::" in line]


def is_readable(name):
    """Whether what stands for a test's values is short, and none of it a byte or a control character."""
    value = name.partition("[")[2].removesuffix("]")
    return len(value) <= LONGEST and codecs.decode(value.encode(), "unicode_escape").isprintable()


@slow
def test_two_processes_at_two_times_collect_the_same_readable_names():
    first = collect()
    time.sleep(3)  # the time in a zip file goes by two seconds
    one, two = map(names, (first, collect()))
    assert len(one) > 5000
    assert one == two
    assert [name[:300] for name in one if not is_readable(name)] == []
