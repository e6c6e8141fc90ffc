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
    """A class made from `conveyor.Cell`: one to three states of different widths, perhaps a stream and a constant.

    Its equations are a few lines over them, over a parameter and over affine maps, some with diagonal blocks.
    """
    state = ("h", "C", "n")[: draw(st.integers(1, 3))]
    extra = [0] + [draw(st.integers(0, 2)) for _ in state[1:]]  # how much wider than hidden_size each state is
    further = draw(st.sampled_from(((), ("u",), ("k",), ("u", "k"))))  # a stream, a constant
    widths = dict(zip(state, extra, strict=True)) | dict.fromkeys(further, 0)
    known = {"x": None, **widths, "self.p": 0}
    made, lines = [], []

    def value(width):
        names = [name for name, w in known.items() if w == width]
        return draw(st.sampled_from(names)) if names else affine(width)

    def affine(width, also=()):
        names = sorted(name for name in known if name not in ("self.p", *also))
        operands = [*draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)), *also]
        square = [name for name in operands if known[name] == width]
        blocks = {name: "diagonal" for name in square if draw(st.booleans())}
        made.append((operands, width, draw(st.booleans()), blocks))
        return f"self.m{len(made) - 1}({', '.join(operands)})"

    for i in range(draw(st.integers(1, 6))):
        width = draw(st.sampled_from(extra))
        kind = draw(st.sampled_from(("affine", "unary", "binary")))
        if kind == "affine":
            expression = f"tanh({affine(width)})"
        elif kind == "unary":
            expression = draw(st.sampled_from(UNARY)).format(*[value(width)] * 2)
        else:
            expression = draw(st.sampled_from(BINARY)).format(affine(width), value(width))
        lines.append(f"v{i} = {expression}")
        known[f"v{i}"] = width
    for name in state:  # bounded, so that no sequence is long enough to overflow; with a row for each of x's
        lines.append(f"new_{name} = tanh({affine(widths[name], also=('x',))} + {value(widths[name])})")
    source = f"def step(self, x, {', '.join(state + further)}):\n    "
    source += "\n    ".join([*lines, f"return {', '.join(f'new_{name}' for name in state)}"]) + "\n"
    return build(state, {name: w for name, w in known.items() if w is not None}, made, source)


def build(state, widths, made, source):
    scope = {"torch": torch, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    file = f"<random cell {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # a traceback shows the equations
    exec(compile(source, file, "exec"), scope)

    def make(self, input_size, hidden_size):
        known = {name: hidden_size + extra for name, extra in widths.items() if name != "self.p"}
        conveyor.Cell.__init__(self, input_size, hidden_size, **known)
        self.p = torch.nn.Parameter(torch.linspace(-1, 1, hidden_size))
        for i, (operands, width, bias, blocks) in enumerate(made):
            setattr(self, f"m{i}", self.affine(*operands, out=hidden_size + width, bias=bias, **blocks))

    members = {"state": state, "step": scope["step"], "__init__": make, "source": source}
    if "k" in widths:
        members["constant"] = ("k",)
    return type("RandomCell", (conveyor.Cell,), members)
