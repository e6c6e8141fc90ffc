"""Random cells: a Hypothesis strategy over steps, written as source so that a failing one can be read."""

import linecache

import torch
from hypothesis import strategies as st

import conveyor

UNARY = (
    "sigmoid({})",
    "tanh({})",
    "torch.sin({})",
    "0.5 * {}",
    "torch.exp(-{} * {})",
    "1 - {}",
    "torch.clamp({}, -1, 1)",
)
BINARY = ("{} * {}", "{} + {}", "{} - {}", "torch.maximum({}, {})")


@st.composite
def random_cells(draw):
    """A class made from `conveyor.Cell` with one to three states of different widths and a few lines of equations."""
    state = ("h", "C", "n")[: draw(st.integers(1, 3))]
    extra = [0] + [draw(st.integers(0, 2)) for _ in state[1:]]  # how much wider than hidden_size each state is
    widths = dict(zip(state, extra, strict=True))
    made, lines = [], []

    def value(width=None):
        names = [name for name, w in known.items() if width in (None, w)]
        return draw(st.sampled_from(names)) if names else affine(width)

    def affine(width):
        operands = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3, unique=True))
        made.append((operands, width, draw(st.booleans())))
        return f"self.m{len(made) - 1}({', '.join(operands)})"

    known = {"x": None, **widths}
    for i in range(draw(st.integers(1, 6))):
        width = draw(st.sampled_from(extra))
        kind = draw(st.sampled_from(("affine", "unary", "binary")))
        if kind == "affine":
            expression = f"tanh({affine(width)})"
        elif kind == "unary":
            template = draw(st.sampled_from(UNARY))
            expression = template.format(*[value(width)] * 2)
        else:
            expression = draw(st.sampled_from(BINARY)).format(value(width), value(width))
        lines.append(f"v{i} = {expression}")
        known[f"v{i}"] = width
    for name in state:  # bounded, so that no sequence is long enough to overflow
        lines.append(f"new_{name} = tanh({affine(widths[name])} + {value(widths[name])})")
    source = f"def step(self, x, {', '.join(state)}):\n    "
    source += "\n    ".join([*lines, f"return {', '.join(f'new_{name}' for name in state)}"]) + "\n"
    return build(state, widths, made, {name: w for name, w in known.items() if name[0] == "v"}, source)


def build(state, widths, made, values, source):
    scope = {"torch": torch, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    file = f"<random cell {abs(hash(source))}>"
    linecache.cache[file] = (
        len(source),
        None,
        source.splitlines(True),
        file,
    )  # so that a traceback shows the equations
    exec(compile(source, file, "exec"), scope)

    def make(self, input_size, hidden_size):
        known = {name: hidden_size + extra for name, extra in {**widths, **values}.items()}
        conveyor.Cell.__init__(self, input_size, hidden_size, **known)
        for i, (operands, width, bias) in enumerate(made):
            setattr(self, f"m{i}", self.affine(*operands, out=hidden_size + width, bias=bias))

    members = {"state": state, "step": scope["step"], "__init__": make, "source": source}
    return type("RandomCell", (conveyor.Cell,), members)
