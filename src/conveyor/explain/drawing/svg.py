"""A layout as SVG. Each shape and line has attributes that name its part or wires, for styles and scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from html import escape

from conveyor.explain.circuit import Circuit, Part
from conveyor.explain.drawing.coordinates import BESIDE, NAME, TEXT, Layout, Polyline, Shape
from conveyor.explain.drawing.netlist import Item
from conveyor.explain.drawing.paths import RoundedLine, number, path, rounded_lines, tip
from conveyor.explain.symbols import Symbol, spoken

NEIGHBOUR = 96.0  # the width of a neighbouring module, which is drawn empty
MARGIN = 16.0

LIGHT = {
    "page": "#ffffff",
    "module-fill": "#e4f1e4",
    "module-line": "#5f8f62",
    "layer-fill": "#ffe68f",
    "layer-line": "#8a6d00",
    "op-fill": "#ffc3cf",
    "op-line": "#a4405a",
    "stream-fill": "#d3e4fb",
    "stream-line": "#3b6ea8",
    "given-fill": "#e7dbf7",
    "given-line": "#7650a8",
    "tag-fill": "#ffffff",
    "tag-line": "#6b7280",
    "line": "#1f2933",
    "text": "#111827",
    "accent": "#c2410c",
}
DARK = {
    "page": "#12161c",
    "module-fill": "#1d2b22",
    "module-line": "#7fb185",
    "layer-fill": "#5c4a06",
    "layer-line": "#f0cf5a",
    "op-fill": "#63202f",
    "op-line": "#f497ab",
    "stream-fill": "#1b365c",
    "stream-line": "#8ab8f0",
    "given-fill": "#3b2760",
    "given-line": "#c3a5f2",
    "tag-fill": "#232a33",
    "tag-line": "#9aa5b1",
    "line": "#d5dce4",
    "text": "#f3f5f7",
    "accent": "#fb923c",
}
FONT = '"STIX Two Text", STIXGeneral, "Times New Roman", Times, "Liberation Serif", serif'
RULES = """
.diagram { font-family: FONT; background: var(--page); }
.diagram .module { fill: var(--module-fill); stroke: var(--module-line); stroke-width: 2.5; }
.diagram .wire { fill: none; stroke: var(--line); stroke-width: 2.6; stroke-linejoin: round; }
.diagram .tip { fill: var(--line); }
.diagram .shape { stroke-width: 2.2; }
.diagram .layer .shape { fill: var(--layer-fill); stroke: var(--layer-line); }
.diagram .op .shape { fill: var(--op-fill); stroke: var(--op-line); }
.diagram .stream .shape { fill: var(--stream-fill); stroke: var(--stream-line); }
.diagram .constant .shape { fill: var(--stream-fill); stroke: var(--stream-line); stroke-dasharray: 5 3; }
.diagram .end .shape { fill: var(--given-fill); stroke: var(--given-line); }
.diagram .clock .shape, .diagram .parameter .shape { fill: var(--tag-fill); stroke: var(--tag-line); }
.diagram .parameter .shape { stroke: var(--layer-line); }
.diagram text { fill: var(--text); text-anchor: middle; }
.diagram .name, .diagram .symbol { font-style: italic; }
.diagram .name { text-anchor: start; }
.diagram .letter { font-size: 44px; opacity: 0.55; }
.diagram .pale { opacity: 0.22; }
.diagram .lit .shape { stroke: var(--accent); stroke-width: 4; }
.diagram .wire.lit { stroke: var(--accent); stroke-width: 4; }
.diagram .tip.lit { fill: var(--accent); }
"""
SPOKEN = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "mul": "times", "add": "plus", "sub": "minus"}
KINDS = {"layer": "learned layer", "op": "pointwise operation", "stream": "input", "clock": "of the step's number"}


def style(theme: str, prefix: str = ".diagram") -> str:
    """The style sheet: colours as variables, and rules. `theme`: "light", "dark", or "auto" for that of the reader."""
    light, dark = (f"{prefix} {{ {_variables(colours)} }}" for colours in (LIGHT, DARK))
    first = dark if theme == "dark" else light
    second = f"\n@media (prefers-color-scheme: dark) {{ {dark} }}" if theme == "auto" else ""
    return first + second + RULES.replace("FONT", FONT)


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


class Drawing:
    """One or several modules in a row; `lit`: what is highlighted."""

    def __init__(self, layout: Layout, title: str, unroll: int = 1, lit: Lit | None = None):
        self.layout, self.title, self.unroll, self.lit = layout, title, unroll, lit
        self.circuit = layout.circuit
        self.lines = rounded_lines(layout.polylines)
        self.middle = unroll // 2

    def text(self, sheet: str | None, description: str) -> str:
        """The whole document. `sheet`: its style sheet; None: the page that contains it has one."""
        left, top, width, height = self.extent()
        body = [f"<title>{escape(self.title)}</title>", f"<desc>{escape(description)}</desc>"]
        body += [f"<style>{sheet}</style>"] if sheet is not None else []
        body += self.modules()
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" role="img" '
            f'viewBox="{number(left)} {number(top)} {number(width)} {number(height)}" '
            f'width="{number(width)}" height="{number(height)}">'
        )
        return "\n".join([opening, *body, "</svg>\n"])

    def extent(self) -> tuple[float, float, float, float]:
        """The view box: left, top, width, height."""
        side = self.layout.gap + NEIGHBOUR + MARGIN
        ends = [shape for shape in self.layout.shapes if shape.form == "end"]
        top = min([0.0, *(s.y - s.height / 2 for s in ends)]) - MARGIN
        bottom = max([self.layout.height, *(s.y + s.height / 2 for s in ends)]) + MARGIN
        across = self.unroll * (self.layout.width + self.layout.gap) - self.layout.gap
        return -side, top, across + 2 * side, bottom - top

    def modules(self) -> Iterable[str]:
        """The elements of all modules, with the empty ones at both ends."""
        pitch = self.layout.width + self.layout.gap
        yield self.neighbour(-self.layout.gap - NEIGHBOUR, -1 - self.middle)
        yield self.neighbour(self.unroll * pitch, self.unroll - self.middle)
        for k in range(self.unroll):
            yield f'<g transform="translate({number(k * pitch)} 0)">' if k else "<g>"
            yield from self.module(k - self.middle)
            yield "</g>"

    def neighbour(self, x: float, step: int) -> str:
        """A neighbouring module, drawn empty with its x and output."""
        middle = x + NEIGHBOUR / 2, self.layout.height / 2 + 15
        ends = "".join(self.neighbours_end(shape, middle[0], step) for shape in self.layout.shapes)
        return (
            f'<g class="neighbour">{ends}<rect class="module" x="{number(x)}" y="0" width="{number(NEIGHBOUR)}" '
            f'height="{number(self.layout.height)}" rx="16"/>'
            f'<text class="symbol letter" x="{number(middle[0])}" y="{number(middle[1])}">A</text></g>'
        )

    def neighbours_end(self, shape: Shape, x: float, step: int) -> str:
        """x and the output of a neighbouring module."""
        kind, first = shape.item.kind, self.circuit.graph.states[:1]
        if (kind, [shape.item.name]) not in (("stream", ["x"]), ("given", first)):
            return ""
        height, edge = self.layout.height, shape.y - math.copysign(shape.height / 2, shape.y)
        points = ((x, edge), (x, height)) if kind == "stream" else ((x, 0.0), (x, edge))
        polyline = Polyline(-1, points, (), tip=True)
        pale = " pale" if self.lit else ""
        lines = (
            f'<path class="wire{pale}" d="{path(RoundedLine(polyline))}"/><path class="tip{pale}" d="{tip(polyline)}"/>'
        )
        group = "end" if kind == "given" else kind
        moved = replace(shape, x=x)
        return f'{lines}<g class="{group}{pale}">{self.outline(moved)}{self.words(moved, step)}</g>'

    def module(self, step: int) -> Iterable[str]:
        """The elements of the module of step t + `step`. Only that of step t has data attributes."""
        layout = self.layout
        width, height = number(layout.width), number(layout.height)
        yield f'<rect class="module" x="0" y="0" width="{width}" height="{height}" rx="16"/>'
        for line in self.lines:
            yield self.line(line, step)
        for shape in layout.shapes:
            # A label between two modules is drawn by the one nearer to the middle.
            elsewhere = (shape.item.kind == "state" and step > 0) or (shape.item.kind == "handed" and step < 0)
            if shape.form != "point" and not elsewhere:
                yield self.shape(shape, step)

    # -- lines

    def line(self, line: RoundedLine, step: int) -> str:
        """A line, with its arrowhead if it has one."""
        polyline = line.polyline
        lit = self.lit.wire(polyline.wires, step) if self.lit else ""
        data = f' data-wire="{escape(" ".join(polyline.wires))}"' if step == 0 else ""
        if polyline.points[0][0] < 0 and step > -self.middle:  # the previous module draws the rest
            polyline = replace(polyline, points=((0.0, polyline.points[0][1]), *polyline.points[1:]))
            line = replace(line, polyline=polyline)
        text = f'<path class="wire{lit}"{data} d="{path(line)}"/>'
        return text + f'<path class="tip{lit}"{data} d="{tip(polyline)}"/>' * polyline.tip

    # -- shapes

    def shape(self, shape: Shape, step: int) -> str:
        """A shape with its title and texts."""
        item = shape.item
        part = self.circuit.parts[item.part]
        is_end = item.kind in ("handed", "given")
        kind = "end" if is_end else item.kind
        lit = self.lit.shape(item, step) if self.lit else ""
        data = f' data-part="{item.part}" data-name="{escape(item.name)}"' if step == 0 else ""
        data += f' data-end="{escape(item.name)}"' if step == 0 and is_end else ""
        title = f"<title>{escape(self.spoken_end(shape) if is_end else spoken_part(self.circuit, part))}</title>"
        return f'<g class="part {kind}{lit}"{data}>{title}{self.outline(shape)}{self.words(shape, step)}</g>'

    def spoken_end(self, shape: Shape) -> str:
        """An end in words: "h of t, for the next step"."""
        where = "for the next step" if shape.item.kind == "handed" else "given at this step"
        return f"{spoken(shape.item.name)} of t, {where}"

    def outline(self, shape: Shape) -> str:
        """The circle or rectangle of a shape; none for a label."""
        x, y, w, h = shape.x, shape.y, shape.width, shape.height
        if shape.form == "label":
            return ""
        if shape.form in ("circle", "end") and w == h:
            return f'<circle class="shape" cx="{number(x)}" cy="{number(y)}" r="{number(w / 2)}"/>'
        radius = 4 if shape.form == "box" else 8 if shape.form == "tag" else h / 2
        at = f'x="{number(x - w / 2)}" y="{number(y - h / 2)}" width="{number(w)}" height="{number(h)}"'
        return f'<rect class="shape" {at} rx="{number(radius)}"/>'

    def words(self, shape: Shape, step: int) -> str:
        """The text on a shape, and the name beside its line."""
        text = shape.text
        if shape.form in ("end", "label") and shape.item.kind != "constant":
            text = _shifted(text, step)
        is_symbol = shape.form in ("end", "label") or shape.item.kind == "parameter" or text.base == "W"
        size = NAME if shape.form in ("label", "tag") else TEXT
        y = shape.y - 9 if shape.form == "label" else shape.y + 0.33 * size
        found = _text("symbol" if is_symbol else "words", text, shape.x, y, size)
        if shape.name is not None:
            found += _text("name", shape.name, shape.x + BESIDE, shape.y - shape.height / 2 - 8, NAME)
        return found


class Lit:
    """A highlight: its parts, its wires by their names in the drawing, and the states of t-1 that it includes."""

    def __init__(self, parts: set[int], wires: set[str], states: set[str]):
        self.parts, self.wires, self.states = parts, wires, states

    def wire(self, wires: tuple[str, ...], step: int) -> str:
        """The class of a line with these wires: " lit" or " pale"."""
        if step == 0:
            return " lit" if self.wires.intersection(wires) else " pale"
        before = step == -1 and self.states.intersection(wire.partition("-end:")[2] for wire in wires)
        return " lit" if before else " pale"

    def shape(self, item: Item, step: int) -> str:
        """The class of an item: " lit" or " pale"."""
        if item.kind in ("handed", "given"):
            lit = f"{item.part}-end:{item.name}" in self.wires
        else:
            lit = item.part in self.parts
        return " lit" if lit and step == 0 else " pale"


def spoken_part(circuit: Circuit, part: Part) -> str:
    """A part in words, for screen readers: "f, learned layer, sigmoid, of h of t-1 and x"."""
    operands = [circuit.owners[term.value] for term in part.terms]
    operands += [circuit.owners[j] for j in part.operands if j in circuit.owners]
    names = list(dict.fromkeys(_spoken_value(circuit, i) for i in operands))
    kind = KINDS.get(part.kind, part.kind)
    name = f"{spoken(part.name)} of t-1" if part.kind == "state" else spoken(part.name)
    words = [name, "state" if part.kind == "state" else kind]
    if part.kind in ("layer", "op", "clock"):
        words.append(SPOKEN.get(part.op, part.op or part.label) if part.op or part.label else "")
    if names:
        words.append("of " + (", ".join(names[:-1]) + " and " if names[1:] else "") + names[-1])
    return ", ".join(word for word in words if word)


def _spoken_value(circuit: Circuit, i: int) -> str:
    part = circuit.parts[i]
    if part.kind == "state":
        return f"{spoken(part.name)} of t-1"
    return spoken(part.name) if part.name else f"a {SPOKEN.get(part.op, part.op) or 'learned sum'}"


def _shifted(text: Symbol, step: int) -> Symbol:
    """A symbol with the index t or t−1, moved by some steps."""
    head, _, time = text.index.rpartition(", ")
    at = step - (time == "t−1")
    new = "t" if at == 0 else f"t+{at}" if at > 0 else f"t−{-at}"
    return Symbol(text.base, f"{head}, {new}" if head else new)


def _text(kind: str, text: Symbol, x: float, y: float, size: float) -> str:
    index = f'<tspan dy="{number(0.25 * size)}" font-size="{number(0.68 * size)}">{escape(text.index)}</tspan>'
    content = escape(text.base) + (index if text.index else "")
    return f'<text class="{kind}" x="{number(x)}" y="{number(y)}" font-size="{number(size)}">{content}</text>'
