"""The diagram of a cell: the repeating module with its layers, operations and lines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conveyor.cell import Cell
from conveyor.errors import BadInput, suggest
from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.coordinates import Layout
from conveyor.explain.drawing.layout import lay_out
from conveyor.explain.drawing.svg import DARK, LIGHT, Drawing, Lit, style
from conveyor.explain.symbols import pretty, spoken
from conveyor.layer.compilation import compile

THEMES = ("auto", "light", "dark")
# They come with matplotlib; the last has glyphs that the others lack, such as a tilde above an italic letter.
FONTS = ("STIXGeneral", "STIXGeneralItalic", "DejaVuSerif-Italic")
MOST = 100_000_000  # pixels of a PNG, each of which takes four bytes of memory
MISSING = "a PNG needs the extra packages: pip install 'conveyor[draw]'; an SVG needs none"


@dataclass(frozen=True)
class Diagram:
    """The diagram of a cell, as SVG (`svg`, `inline`) or PNG (`png`)."""

    layout: Layout
    title: str
    unroll: int = 1
    highlight: tuple[str, ...] = ()
    theme: str = "auto"

    @property
    def svg(self) -> str:
        """A complete SVG document."""
        return self.drawing.text(style(self.theme), describe(self.layout.circuit, self.unroll))

    @property
    def inline(self) -> str:
        """The SVG without a style sheet, for a page that includes `stylesheet()` once for all its diagrams."""
        return self.drawing.text(None, describe(self.layout.circuit, self.unroll))

    @property
    def drawing(self) -> Drawing:
        """The drawing behind both forms."""
        lit = lit_by(self.layout.circuit, self.highlight) if self.highlight else None
        return Drawing(self.layout, self.title, self.unroll, lit)

    def png(self, scale: float = 2.0) -> bytes:
        """A PNG, the same on every machine since the font comes with matplotlib. `scale`: pixels per pixel of the SVG.

        Raises BadInput if packages are missing or the picture is too large.
        """
        try:
            import matplotlib
            import resvg_py
        except ImportError as error:
            raise BadInput(MISSING) from error
        *_, width, height = (size * scale for size in self.drawing.extent())
        if width * height > MOST:
            raise BadInput(f"a PNG of {width:,.0f} x {height:,.0f} pixels is too large: take a smaller scale, or SVG")
        colours = DARK if self.theme == "dark" else LIGHT
        text = re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], self.svg)
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        return bytes(
            resvg_py.svg_to_bytes(
                svg_string=text,
                zoom=scale,
                background=colours["page"],
                skip_system_fonts=True,
                font_files=[str(fonts / f"{name}.ttf") for name in FONTS],
                serif_family="STIXGeneral",
                font_family="STIXGeneral",
            )
        )


def diagram(cell: Cell, unroll: int = 1, highlight: Iterable[str] = (), theme: str = "auto") -> Diagram:
    """The diagram of a cell, the repeating module as in the essay *Understanding LSTM Networks*.

        Path("lstm.svg").write_text(diagram(conveyor.zoo.LSTM(32, 128)).svg)
        diagram(conveyor.zoo.LSTM(32, 128), unroll=3, highlight=["f"]).png()

    `unroll` modules are drawn in full; the middle one is that of step t. `highlight`: names of values whose paths are
    highlighted, while all else is dimmed. `theme`: "light", "dark", or "auto", the setting of the reader's machine.
    Raises BadInput for an unknown name or theme, CannotCompile for a step that cannot be traced.
    """
    return draw(Circuit.of(compile(cell).traced), type(cell).__name__, unroll, highlight, theme)


def draw(circuit: Circuit, title: str, unroll: int = 1, highlight: Iterable[str] = (), theme: str = "auto") -> Diagram:
    """As `diagram`, for a circuit. `title`: what a screen reader reads first."""
    if theme not in THEMES:
        raise BadInput(f"no theme is called {theme}: {suggest(theme, THEMES)}")
    if unroll < 1:
        raise BadInput(f"at least one module is drawn, not {unroll}")
    shown = {unicodedata.normalize("NFC", pretty(name)): name for name in names(circuit)}
    highlight = tuple(shown.get(unicodedata.normalize("NFC", name), name) for name in highlight)
    for name in highlight:
        check_name(circuit, name)
    return Diagram(lay_out(circuit), title, unroll, highlight, theme)


def stylesheet(theme: str = "auto") -> str:
    """The style sheet for diagrams that are included in a page as `inline`."""
    return style(theme)


def names(circuit: Circuit) -> dict[str, int]:
    """The parts that can be highlighted, by name. A state is its new value, or the old one if the step keeps it."""
    given = {part.name: i for i, part in enumerate(circuit.parts) if part.name}
    return given | circuit.named | {end.name: end.part for end in circuit.ends}


def check_name(circuit: Circuit, name: str) -> None:
    """Raises BadInput if no value of the step has this name."""
    known = names(circuit)
    if name not in known:
        raise BadInput(f"no value is called {name}: {suggest(name, known)}")


def lit_by(circuit: Circuit, highlight: Iterable[str]) -> Lit:
    """The highlight of some values: their paths from the named values that they depend on, and to their readers."""
    parts, wires = set[int](), set[str]()
    for name in highlight:
        part = names(circuit)[name]
        stack, seen = [part], {part}
        while stack:
            at = stack.pop()
            for source in circuit.sources(at):
                wires.add(f"{source}-{at}")
                if source not in seen:
                    seen.add(source)
                    stack += [] if circuit.parts[source].name else [source]
        parts |= seen | set(circuit.targets(part))
        wires |= {f"{part}-{target}" for target in circuit.targets(part)}
        wires |= {f"{part}-end:{end.name}" for end in circuit.ends if end.part == part}
    states = {circuit.parts[i].name for i in parts if circuit.parts[i].kind == "state"}
    return Lit(parts, wires, states)


def describe(circuit: Circuit, unroll: int) -> str:
    """The picture in words, for screen readers."""
    layers = [part for part in circuit.parts if part.kind == "layer"]
    circles = sum(part.kind == "op" for part in circuit.parts)
    named = ", ".join(pretty(part.name) for part in layers if part.name)
    states = ", ".join(spoken(name) for name in circuit.graph.states)
    count = "One module" if unroll == 1 else f"{unroll} modules"
    text = f"{count} of a recurrent network. Handed from step to step: {states}. "
    text += f"Each has {len(layers)} learned layers{f' ({named})' if named else ''} and {circles} pointwise operations."
    return text
