"""The diagram of every cell, read from the SVG itself: nothing overlaps, every line goes where the step says."""

import math
import re
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

import conveyor
from cases import CASES
from command import called
from command import conveyor as command
from conveyor import cli, zoo
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.check import check
from conveyor.explain.drawing.diagram import Diagram, diagram, stylesheet
from conveyor.explain.drawing.errors import REPORT, CannotDraw
from conveyor.explain.drawing.layout import WORK, lay_out
from conveyor.explain.symbols import Symbol, pretty, spoken, symbol
from conveyor.zoo import CELLS
from random_cells import sample
from tiers import ROUGH, quick, slow

# How many crossings a cell's picture has at most, and which state runs straight through as its memory.
LIMITS = {
    **dict.fromkeys(("rnn", "rnn-relu"), (0, None)),
    **dict.fromkeys(("lstm", "lstm-coupled", "lstm-forget-bias", "lstm-original"), (1, "C")),
    **dict.fromkeys(("lstm-nig", "lstm-nfg", "lstm-cifg"), (1, "C")),
    **dict.fromkeys(("lstm-peephole", "lstm-peephole-full", "lstm-vanilla", "lstm-np"), (2, "C")),
    **dict.fromkeys(("lstm-nog", "lstm-niaf", "lstm-noaf"), (3, "C")),
    "lstm-fgr": (11, "C"),
    "lstm-depth-gated": (6, "C"),
    **dict.fromkeys(("gru", "gru-reset-before", "mut1"), (1, "h")),
    **dict.fromkeys(("mut2", "mut3"), (2, "h")),
    "clockwork": (7, "h"),
    "grid": (8, "m"),
    "grid-priority": (11, "m"),
}
RANDOM = sample(24)
EPS = 1e-3


def made(kind, units=1, options=None, shapes=None, work=ROUGH):
    cell = kind(5, 6 * units, **(options or {}))
    known = {name: shape if isinstance(shape, tuple) else (shape,) for name, shape in (shapes or {}).items()}
    circuit = Circuit.of(conveyor.compile(cell, shapes=known).traced)
    return Diagram(lay_out(circuit, work), kind.__name__)


@cache
def of_zoo(name):
    case = CASES[name]
    return made(CELLS[name], case.units, case.options, case.shapes, WORK)


class Picture:
    """What an SVG shows: its boxes, texts and lines, with what they stand for, and all places on the page."""

    def __init__(self, text):
        self.root = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", text, count=1))
        self.boxes, self.texts, self.lines, self.tips, self.groups = [], [], [], [], []
        self.walk(self.root, 0.0, None)

    def walk(self, element, dx, group):
        if moved := element.get("transform"):
            dx += float(re.fullmatch(r"translate\(([-\d.]+) 0\)", moved)[1])
        kinds = (element.get("class") or "").split()
        if element.tag == "g" and {"part", "stream", "end"} & set(kinds):
            group = element
            self.groups += [element] * ("part" in kinds)
        if "shape" in kinds:
            self.boxes.append((box_of(element, dx), group))
        elif element.tag == "text":
            self.texts.append((extent(element, dx), group, kinds))
        elif "wire" in kinds:
            self.lines.append((points_of(element.get("d"), dx), (element.get("data-wire") or "").split(), element))
        elif "tip" in kinds:
            self.tips.append(element)
        for child in element:
            self.walk(child, dx, group)

    def box(self, part):
        return next(box for box, group in self.boxes if is_part(group, part))


def is_part(group, part):
    return group is not None and group.get("data-part") == str(part) and not group.get("data-end")


def box_of(element, dx):
    of = {name: float(value) for name, value in element.attrib.items() if name != "class"}
    if element.tag == "circle":
        return of["cx"] - of["r"] + dx, of["cy"] - of["r"], of["cx"] + of["r"] + dx, of["cy"] + of["r"]
    return of["x"] + dx, of["y"], of["x"] + of["width"] + dx, of["y"] + of["height"]


@cache
def font():
    return FT2Font(str(Path(get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"))


def width_of(text, size):
    font().set_size(size, 72)
    font().set_text(text)
    return font().get_width_height()[0] / 64


def extent(element, dx):
    """The box of a text, measured in the font that a PNG has."""
    x, y, size = float(element.get("x")) + dx, float(element.get("y")), float(element.get("font-size", 44))
    pieces = [(element.text or "", size)] + [(child.text or "", float(child.get("font-size"))) for child in element]
    width = sum(width_of(text, each) for text, each in pieces)
    left = x if "name" in element.get("class") else x - width / 2
    return left, y - 0.7 * size, left + width, y + 0.22 * size


def points_of(d, dx):
    """A path as points, and whether the step to each is straight; a curve as a few steps."""
    found = []
    for letter, numbers in re.findall(r"([MLQ])([-\d. ]+)", d):
        values = [float(number) for number in numbers.split()]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        pairs = [(x + dx, y) for x, y in pairs]
        if letter != "Q":
            found.append((*pairs[0], True))
            continue
        (x, y, _), (control, end) = found[-1], pairs
        for n in range(1, 7):
            a, b, c = (1 - n / 6) ** 2, 2 * (n / 6) * (1 - n / 6), (n / 6) ** 2
            found.append((a * x + b * control[0] + c * end[0], a * y + b * control[1] + c * end[1], False))
    return found


def steps(points):
    """All steps of a line, and those alone that are straight, as boxes without an inside."""
    return [((min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])), b[2]) for a, b in pairwise(points)]


def overlap(a, b):
    return a[0] < b[2] - EPS and b[0] < a[2] - EPS and a[1] < b[3] - EPS and b[1] < a[3] - EPS


def hold_the_laws(picture, circuit):
    nothing_overlaps(picture)
    no_line_runs_through_anything(picture)
    no_line_runs_along_another(picture)
    every_part_is_there(picture, circuit)
    every_wire_is_drawn(picture, circuit)


def nothing_overlaps(picture):
    for (a, one), (b, two) in combinations(picture.boxes, 2):
        assert not overlap(a, b), f"{label(one)} and {label(two)} overlap"
    for text, group, _ in picture.texts:
        own = [box for box, other in picture.boxes if other is group is not None]
        inside = any(b[0] <= text[0] and text[2] <= b[2] for b in own)
        for box, other in picture.boxes:
            assert not overlap(text, box) or (other is group and inside), (
                f"{label(group)} is written over {label(other)}"
            )
    for (a, one, _), (b, two, _) in combinations(picture.texts, 2):
        assert not overlap(a, b), f"{label(one)} and {label(two)} are written over each other"


def label(group):
    return "a neighbour" if group is None else group.findtext("title", "what a neighbour reads or gives")


def no_line_runs_through_anything(picture):
    things = [(box, group) for box, group in picture.boxes] + [(box, group) for box, group, _ in picture.texts]
    for points, wires, _ in picture.lines:
        for step, _ in steps(points):
            for box, group in things:
                assert not overlap(step, box), f"the line of {wires} runs through {label(group)}"


def straight_steps(picture):
    return [(n, step) for n, (points, _, _) in enumerate(picture.lines) for step, straight in steps(points) if straight]


def no_line_runs_along_another(picture):
    for (n, a), (m, b) in combinations(straight_steps(picture), 2):
        if n != m:
            across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            along = max(across, down) > 0.5 and min(across, down) >= -0.5
            assert not along, f"the lines of {picture.lines[n][1]} and {picture.lines[m][1]} run along each other"


def crossings(picture):
    """Where straight steps cross at right angles."""
    found = 0
    for (n, a), (m, b) in combinations(straight_steps(picture), 2):
        if n != m and (a[0] == a[2]) != (b[0] == b[2]):
            a, b = (a, b) if a[0] == a[2] else (b, a)  # the first is upright
            found += b[0] + 0.1 < a[0] < b[2] - 0.1 and a[1] + 0.1 < b[1] < a[3] - 0.1
    return found


def every_part_is_there(picture, circuit):
    parts = Counter(int(g.get("data-part")) for g in picture.groups if g.get("data-part") and not g.get("data-end"))
    assert parts == Counter(range(len(circuit.parts)))
    for group in picture.groups:
        assert group.findtext("title")
        if group.get("data-part") and not group.get("data-end"):
            part = circuit.parts[int(group.get("data-part"))]
            assert part.kind in group.get("class").split()
            assert group.get("data-name") == part.name
    ends = {(g.get("data-part"), g.get("data-end")) for g in picture.groups if g.get("data-end")}
    assert ends == {(str(end.part), end.name) for end in circuit.ends}


def every_wire_is_drawn(picture, circuit):
    """From one part to the other there is a line without a gap, for each wire and for no other."""
    by_wire = defaultdict(list)
    for points, wires, _ in picture.lines:
        for wire in wires:
            by_wire[wire].append([(x, y) for x, y, _ in points])
    wanted = {f"{wire.source}-{wire.target}": (wire.source, wire.target) for wire in circuit.wires}
    wanted |= {f"{end.part}-end:{end.name}": (end.part, None) for end in circuit.ends}
    assert set(by_wire) == set(wanted)
    for wire, (source, target) in wanted.items():
        lines = by_wire[wire]
        starts = [line for line in lines if touches(line[0], picture, circuit, source)]
        reached, todo = [], list(starts)
        while todo:
            line = todo.pop()
            if line not in reached:
                reached.append(line)
                todo += [other for other in lines if on(other[0], line) or on(line[-1], other)]
        assert starts, f"{wire} begins nowhere"
        assert len(reached) == len(lines), f"{wire} is in pieces"
        if target is not None:
            assert any(touches(line[-1], picture, circuit, target, 6) for line in reached), f"{wire} does not arrive"


def touches(point, picture, circuit, part, near=0.1):
    if circuit.parts[part].kind == "state":
        return point[0] < 0
    box = picture.box(part)
    return all(low - near <= at <= high + near for low, at, high in zip(box[:2], point, box[2:], strict=True))


def on(point, line):
    """Whether a point lies on a line."""
    for (ax, ay), (bx, by) in pairwise(line):
        length = math.hypot(bx - ax, by - ay)
        along = ((point[0] - ax) * (bx - ax) + (point[1] - ay) * (by - ay)) / length if length else 0.0
        along = min(max(along, 0.0), length)
        share = along / length if length else 0.0
        if math.hypot(ax + share * (bx - ax) - point[0], ay + share * (by - ay) - point[1]) < 0.1:
            return True
    return False


def belt_is_straight(picture, layout, name):
    """From the left neighbour to the right one, at one height, with nothing but circles on it."""
    state = next(shape for shape in layout.shapes if shape.item.kind == "state" and shape.item.name == name)
    steps_there = [step for _, step in straight_steps(picture) if step[1] == step[3] == state.y]
    on_it = [box for box, group in picture.boxes if group is not None and box[1] < state.y < box[3]]
    reach = -layout.gap
    for left, _, right, _ in sorted(steps_there + on_it):
        assert left <= reach + 5, f"a gap at {reach}"  # an arrow fills as much
        reach = max(reach, right)
    assert reach >= layout.width + layout.gap - 5


@pytest.mark.parametrize("name", quick(CELLS, ["rnn", "lstm"]))
def test_the_diagram_of_every_cell_of_the_zoo_is_good(name):
    drawn = of_zoo(name)
    picture = Picture(drawn.svg)
    hold_the_laws(picture, drawn.layout.circuit)
    most, memory = LIMITS[name]
    assert crossings(picture) == drawn.layout.crossings <= most
    if memory:
        belt_is_straight(picture, drawn.layout, memory)


@pytest.mark.parametrize("name", CASES)
def test_the_diagram_of_every_cell_is_right(name):
    case = CASES[name]
    drawn = made(case.cell, case.units, case.options, case.shapes)
    hold_the_laws(Picture(drawn.svg), drawn.layout.circuit)


@pytest.mark.parametrize("number", quick(range(len(RANDOM)), range(0, len(RANDOM), 4)))
def test_the_diagram_of_a_random_cell(number):
    drawn = made(RANDOM[number])
    hold_the_laws(Picture(drawn.svg), drawn.layout.circuit)


def test_the_lstm_is_that_of_the_essay():
    """Four layers in the order of the step on the line of h and x; on the belt a product over f and then a sum."""
    layout = of_zoo("lstm").layout
    at = {shape.item.name: shape for shape in layout.shapes if shape.item.kind == "layer"}
    assert list(at) == ["f", "i", "C_tilde", "o"] == sorted(at, key=lambda name: at[name].x)
    assert len({shape.y for shape in at.values()}) == 1
    assert [at[name].text.base for name in at] == ["σ", "σ", "tanh", "σ"]
    circles = [shape for shape in layout.shapes if shape.item.kind == "op"]
    belt = min(shape.y for shape in circles)
    on_belt = sorted((shape.x, shape.text.base) for shape in circles if shape.y == belt)
    assert [text for _, text in on_belt] == ["×", "+"]
    assert on_belt[0][0] == at["f"].x
    join = next(shape for shape in layout.shapes if shape.item.kind == "join")
    state = next(shape for shape in layout.shapes if shape.item.kind == "state" and shape.item.name == "h")
    x = next(shape for shape in layout.shapes if shape.item.kind == "stream")
    assert join.y == state.y > at["f"].y
    assert join.x == x.x < at["f"].x


def test_a_drawing_is_always_the_same():
    assert diagram(zoo.GRU(5, 6)).svg == diagram(zoo.GRU(5, 6)).svg == diagram(zoo.GRU(7, 9)).svg


@pytest.mark.parametrize(
    ("file", "shown"),
    [("lstm", ()), ("lstm-f", ("f",)), ("lstm-i", ("i", "C_tilde")), ("lstm-C", ("C",)), ("lstm-o", ("o", "h"))],
)
def test_the_pictures_of_the_documentation_are_current(file, shown):
    """If not: conveyor.explain.drawing.diagram.diagram(zoo.LSTM(4, 8), highlight=shown).svg"""
    folder = Path(__file__).parent.parent / "docs" / "explanation" / "diagrams"
    text = Diagram(of_zoo("lstm").layout, "LSTM", highlight=shown).svg
    assert (folder / f"{file}.svg").read_text(encoding="utf-8") == text


def test_unrolled_three_modules_are_drawn_and_the_middle_one_is_that_of_t():
    drawn = Diagram(of_zoo("lstm").layout, "LSTM", unroll=3)
    picture = Picture(drawn.svg)
    nothing_overlaps(picture)
    no_line_runs_through_anything(picture)
    no_line_runs_along_another(picture)
    every_part_is_there(picture, drawn.layout.circuit)
    ends = ["".join(g.find("text").itertext()) for g in picture.groups if "stream" in g.get("class").split()]
    assert ends == ["xt−1", "xt", "xt+1"]
    middle = next(g for g in picture.groups if g.get("data-name") == "x")
    assert "".join(middle.find("text").itertext()) == "xt"


def test_a_highlight_lights_the_way_of_a_value():
    circuit = of_zoo("lstm").layout.circuit
    picture = Picture(Diagram(of_zoo("lstm").layout, "LSTM", highlight=("f",)).svg)
    lit = {int(g.get("data-part")) for g in picture.groups if "lit" in g.get("class").split()}
    f = circuit.named["f"]
    assert lit == {f, *circuit.sources(f), *circuit.targets(f)}
    assert all("pale" in g.get("class") for g in picture.groups if int(g.get("data-part")) not in lit)
    for _, wires, element in picture.lines:
        wanted = any(wire.endswith(f"-{f}") or wire.startswith(f"{f}-") for wire in wires)
        assert ("lit" in element.get("class").split()) == wanted


def test_themes_and_a_page_of_several():
    layout = of_zoo("lstm").layout
    auto, light, dark = (Diagram(layout, "LSTM", theme=theme).svg for theme in ("auto", "light", "dark"))
    assert "prefers-color-scheme: dark" in auto
    assert "prefers-color-scheme" not in light + dark
    assert light != dark
    inline = Diagram(layout, "LSTM").inline
    assert "<style>" not in inline
    assert " id=" not in inline  # so that two in a page do not meet
    assert "prefers-color-scheme" in stylesheet()


def test_a_name_that_means_something_in_xml_is_escaped():
    drawn = Diagram(of_zoo("lstm").layout, 'a<b>&"c"')
    assert ElementTree.fromstring(drawn.svg)[0].text == 'a<b>&"c"'


@pytest.mark.parametrize(
    ("name", "base", "index", "read"),
    [
        ("C_tilde", "C\u0303", "", "C tilde"),
        ("depth.u", "u", "depth", "u of depth"),
        ("time.m_tilde", "m\u0303", "time", "m tilde of time"),
        ("m_below", "m", "below", "m below"),
        ("mu_0", "μ", "0", "mu 0"),
        ("h_enc", "h", "enc", "h enc"),
        ("inner_h", "h", "inner", "inner h"),
        ("log_sigma", "log σ", "", "log sigma"),
        ("read_window", "read window", "", "read window"),
        ("v12", "v", "12", "v12"),
        ("_", "_", "", " "),
    ],
)
def test_names_as_symbols(name, base, index, read):
    assert symbol(name) == Symbol(base, index)
    assert pretty(name) == (f"{base}_{index}" if index else base)
    assert spoken(name) == read


def test_a_png_has_a_font_of_its_own():
    small, large = (Diagram(of_zoo("rnn").layout, "RNN").png(scale) for scale in (1.0, 2.0))
    assert small.startswith(b"\x89PNG")
    assert len(large) > len(small)


def test_a_png_without_the_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[draw\]'"):
        Diagram(of_zoo("rnn").layout, "RNN").png()


OWN = """
import torch
import conveyor

class Mine(conveyor.Cell):
    state = ("h",)
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
    def step(self, x, h, drive):
        h = torch.tanh(self.candidate(h, x)) * drive
        return h

class Sorting(conveyor.Cell):
    state = ("h",)
    def step(self, x, h):
        return torch.sort(h)[0]

class Long(conveyor.Cell):
    def step(self, x, h, t):
        for _ in range(1200):
            t = (t + 1) % 7
        return torch.where(t < 3, -h, h) + x.sum(-1, keepdim=True)

class Broken(conveyor.Cell):
    state = ("h",)
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.nothing.such
"""


def test_the_command_draws_a_cell_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    result = called("draw", "mine.py:Mine", "-o", "mine.svg", "--shape", "drive=128", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert ElementTree.parse(tmp_path / "mine.svg").getroot().get("role") == "img"
    assert called("draw", "rnn", "-o", "rnn.png", "--scale", 1, cwd=tmp_path).returncode == 0
    assert (tmp_path / "rnn.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lstmm"], "did you mean lstm?"),
        (["lstm", "-o", "x.pdf"], "must end in .svg or .png"),
        (["lstm", "-o", "nowhere/x.svg"], "the folder nowhere does not exist"),
        (["lstm", "-o", "taken.svg"], "taken.svg is a folder: give a file name, such as taken.svg/cell.svg"),
        (["lstm", "--highlight", "C_tild"], "did you mean C_tilde?"),
        (["lstm", "--theme", "drak"], "did you mean dark?"),
        (["lstm", "--unroll", "0"], "--unroll"),
        (["mine.py:Mine"], "the shape of drive is not known"),
        (["mine.py:Mine", "--shape", "drive=x"], "write NAME=SIZE"),
        (["mine.py:Sorting"], "sort"),
        (["mine.py:Long"], "the step is too long to be drawn"),
        (["mine.py:Broken"], "Broken cannot be created: AttributeError: 'Broken' object has no attribute 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value[:40],
)
def test_a_mistake_is_one_clear_line(arguments, message, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "taken.svg").mkdir()
    result = called("draw", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@slow
@pytest.mark.parametrize("file", ["rnn.svg", "rnn.png"])
def test_a_full_disk_costs_no_picture(file, tmp_path):
    (tmp_path / file).write_text("what was there")
    result = command("draw", "rnn", "-o", file, cwd=tmp_path, file_limit=1000)
    assert result.returncode == 2, result.stderr
    assert re.fullmatch(f"conveyor: {file}: .*\n", result.stderr)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {file: "what was there"}


def no_way(_):
    raise CannotDraw("a line runs through f")


def test_a_cell_that_cannot_be_laid_out_is_one_clear_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("conveyor.explain.drawing.layout.check", no_way)
    monkeypatch.setattr(sys, "argv", ["conveyor", "draw", "rnn", "-o", str(tmp_path / "rnn.svg")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert told == f"conveyor: rnn: its picture could not be laid out (a line runs through f): {REPORT}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (lambda layout: {"shapes": (*layout.shapes, layout.shapes[0])}, "overlap"),
        (lambda layout: {"polylines": (*layout.polylines, layout.polylines[0])}, "overlap"),
        (
            lambda layout: {"polylines": (replace(layout.polylines[0], points=((0.0, 0.0), (3.0, 4.0))),)},
            "not straight",
        ),
    ],
)
def test_a_layout_that_breaks_a_law_is_an_error(change, law):
    layout = of_zoo("rnn").layout
    with pytest.raises(CannotDraw, match=law):
        check(replace(layout, **change(layout)))


@pytest.mark.usefixtures("as_users_have_them")
def test_a_value_can_be_called_as_it_is_shown():
    layout = of_zoo("lstm").layout
    assert diagram(zoo.LSTM(4, 8), highlight=["C̃"]).svg == Diagram(layout, "LSTM", highlight=("C_tilde",)).svg


def test_a_picture_too_large_for_any_memory_is_refused():
    with pytest.raises(BadInput, match=r"1,263,\d+ x 10,\d+ pixels is too large"):
        Diagram(of_zoo("lstm").layout, "LSTM", unroll=100).png(20)
