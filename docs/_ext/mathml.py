"""Formulas as MathML, which browsers draw by themselves: no script, no fonts to fetch, and they work offline."""

from docutils import nodes
from sphinx.errors import ExtensionError

from conveyor.explain.mathml import mathml


def _written(latex: str) -> str:
    try:
        return mathml(latex.replace("{aligned}", "{align*}").strip())  # the converter knows only the second name
    except Exception as error:
        raise ExtensionError(f"this formula cannot be written as MathML ({error}): {latex}") from error


def inline(self, node):
    """A formula within a sentence."""
    self.body.append(_written(node.astext()))
    raise nodes.SkipNode


def block(self, node):
    """A formula by itself; a wide one is scrolled."""
    written = _written(node.astext()).replace('display="inline"', 'display="block"', 1)
    self.body.append(f'<div class="formula">{written}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True}
