"""Two tiers: the tests that `scripts/test` runs, and those that only `scripts/test --all` does.

In the first, every law holds for every cell and every operation, at one size or two. In the second are the products of
all sizes with all variants, processes that are killed, servers, long trainings, the installed package, and what else
takes seconds to show little; and its kernels are compiled, and its pictures laid out, as users have them.
"""

import os
from itertools import combinations, product

import pytest

from conveyor.explain.drawing.layout import lay_out

slow = pytest.mark.slow
CHEAP = "-O0"  # a kernel that is to give right numbers at small sizes need not be fast, but soon there
FLAGS = "CONVEYOR_CFLAGS"
ROUGH = 100  # work for pictures whose layout need only be right, not good


FEW = 2  # examples of sizes for each cell that has a name,
MOST = (4, 3, 2)  # of so many steps, rows and layers at most


def begin(everything):
    """Before tests are collected. The kernels of the first tier are compiled cheaply, unless flags are given."""
    global FEW, MOST
    if everything:
        FEW, MOST = 5, (6, 4, 3)
    else:
        os.environ.setdefault(FLAGS, CHEAP)
        lay_out.__defaults__ = (ROUGH,)


def quick(values, of):
    """Values of a parameter, or of several as tuples, of which those that are not in `of` are slow."""
    each = [(value, value if isinstance(value, tuple) else (value,)) for value in values]
    return [pytest.param(*some, marks=() if value in of else slow) for value, some in each]


def pairwise(*parameters):
    """All combinations of the parameters' values; quick are few, in which any two values of two parameters meet."""
    every = [tuple(each) for each in product(*parameters)]
    pairs = {one: set(combinations(enumerate(one), 2)) for one in every}
    missing, few = set().union(*pairs.values()), set()
    while missing:
        best = max(every, key=lambda one: len(pairs[one] & missing))
        few.add(best)
        missing -= pairs[best]
    return [pytest.param(*one, marks=() if one in few else slow) for one in every]
