"""Random cells: a Hypothesis strategy over steps, written as source so that a failing one can be read."""

import linecache
import re
import zlib

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import conveyor
from random_steps import FORMS, MEMORY, NUMBERED, ROWLESS, add_members


@st.composite
def random_cells(draw, must=(), numbered=False, extra=False):
    """A class made from `conveyor.Cell`: one to three states of different widths, perhaps a stream and constants.

    Its equations are a few lines over them, over a parameter and over affine maps, some with diagonal blocks. The forms
    in `must` are among them; with `numbered` they may read the step number, with `extra` they return one more value.
    """
    state = ("h", "C", "n")[: draw(st.integers(1, 3))]
    wider = [0] + [draw(st.integers(0, 2)) for _ in state[1:]]  # how much wider than hidden_size each state is
    further = draw(st.sampled_from(((), ("u",), ("k",), ("u", "k"))))  # a stream, a constant
    memory = draw(st.booleans()) or not set(MEMORY).isdisjoint(must)
    equations = Equations(draw, dict(zip(state, wider, strict=True)), further, memory)
    for form in must:
        equations.add(form)
    for _ in range(draw(st.integers(1, 6 if not must else 2))):
        equations.add(draw(st.sampled_from(("affine", *equations.forms(numbered)))))
    return equations.build(extra)


class Equations:
    """The lines of a step so far, and the width of every value that the next may read."""

    def __init__(self, draw, states, further, memory):
        self.draw, self.states, self.further = draw, states, further
        self.known = {"x": None, **states, **dict.fromkeys(further, 0), "self.p": 0}
        self.rowless = {"self.p"}  # values of parameters only
        self.made, self.lines = [], []
        self.memory = draw(st.sampled_from(sorted(set(states.values())))) if memory else None
        if memory:
            self.lines.append("M = memory.unflatten(-1, (3, -1))")

    def forms(self, numbered):
        return FORMS + (MEMORY if self.memory is not None else ()) + (NUMBERED if numbered else ())

    def value(self, width, rowless=False):
        """The name of a value of this width, or an affine map to it."""
        names = [n for n, w in self.known.items() if w == width and (rowless or n not in self.rowless)]
        return self.draw(st.sampled_from(names)) if names else self.affine(width)

    def affine(self, width, also=()):
        names = sorted(name for name in self.known if name not in ("self.p", *also))
        operands = [*self.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)), *also]
        operands += [] if set(operands) - self.rowless else ["x"]
        square = [name for name in operands if self.known[name] == width]
        blocks = {name: "diagonal" for name in square if self.draw(st.booleans())}
        self.made.append((operands, width, self.draw(st.booleans()), blocks))
        return f"self.m{len(self.made) - 1}({', '.join(operands)})"

    def add(self, form):
        """One more line, of a value that the following lines may read."""
        width = self.memory if form in MEMORY else self.draw(st.sampled_from([*self.states.values()]))
        name = f"v{sum(line.startswith('v') for line in self.lines)}"
        if form == "affine":
            self.lines.append(f"{name} = torch.tanh({self.affine(width)})")
        else:
            rowless = form in ROWLESS
            first = self.affine(width) if self.draw(st.booleans()) else self.value(width, rowless)
            second = self.value(width, rowless)
            self.lines.append(f"{name} = {form.format(a=first, b=second, e=width)}")
            if {first, *([second] if "{b}" in form else [])} <= self.rowless:
                self.rowless.add(name)
        self.known[name] = width

    def build(self, extra):
        new = {}
        read = dict(self.states)  # the states that still have the name they came in by
        for name, width in self.states.items():
            same = [n for n, w in read.items() if w == width and n != name]
            if new and same and self.draw(st.integers(0, 3)) == 0:
                new[name] = self.draw(st.sampled_from(same))  # a delay: it becomes what another state was
                continue
            new[name] = name if self.draw(st.booleans()) else f"new_{name}"
            # Bounded, so that no sequence is long enough to overflow; with a row for each of x's.
            sources = f"{self.affine(width, also=('x',))} + {self.value(width, rowless=True)}"
            self.lines.append(f"{new[name]} = torch.tanh({sources})")
            if new[name] == name:
                del read[name]
        if extra:
            self.lines.append(f"y = {self.value(0)} * 2")
        memory = [] if self.memory is None else ["memory"]
        body = [*self.lines, f"return {', '.join([*new.values(), *(['y'] if extra else [])])}"]
        numbered = ["t"] if any(re.search(r"\bt\b", line) for line in body) else []
        arguments = ["self", "x", *self.states, *self.further, *memory, *numbered]
        source = f"def step({', '.join(arguments)}):\n    " + "\n    ".join(body) + "\n"
        return self.cell(source, {"extra": ("y",)} if extra else {})

    def cell(self, source, members):
        """The class with this step."""
        scope = {"torch": torch, "F": F}
        file = f"<random cell {zlib.crc32(source.encode())}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # a traceback shows the equations
        exec(compile(source, file, "exec"), scope)
        wider = {name: w for name, w in self.known.items() if w is not None and name != "self.p"}
        made, memory = self.made, self.memory

        def make(self, input_size, hidden_size):
            widths = {name: hidden_size + e for name, e in wider.items()}
            widths |= {} if memory is None else {"memory": 3 * (hidden_size + memory)}
            conveyor.Cell.__init__(self, input_size, hidden_size, **widths)
            self.p = torch.nn.Parameter(torch.linspace(-0.97, 0.93, hidden_size))  # at no kink
            add_members(self, source)
            for i, (operands, width, bias, blocks) in enumerate(made):
                setattr(self, f"m{i}", self.affine(*operands, out=hidden_size + width, bias=bias, **blocks))

        constant = tuple(name for name in ("k", "memory") if name in wider or (name == "memory" and memory is not None))
        members |= {"state": tuple(self.states), "constant": constant, "source": source}
        return type("RandomCell", (conveyor.Cell,), members | {"step": scope["step"], "__init__": make})


def sample(count=25):
    """As many random cells, the same each time, that have every form among them."""
    forms = FORMS + MEMORY + NUMBERED
    return [_drawn(i, random_cells(must=forms[i::count], numbered=True, extra=i % 5 == 0)) for i in range(count)]


def _drawn(number, strategy):
    """One value of the strategy, always the same of this number."""
    found = []

    @seed(number)
    @settings(
        max_examples=3, derandomize=False, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found[-1]  # the first is the simplest one that there is
