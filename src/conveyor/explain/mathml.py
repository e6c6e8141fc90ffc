"""LaTeX to MathML, which browsers display."""

from conveyor.errors import BadInput


def mathml(latex: str) -> str:
    """A LaTeX formula as MathML. Raises BadInput if latex2mathml is missing."""
    try:
        from latex2mathml.converter import convert
    except ImportError as error:
        raise BadInput("formulas need latex2mathml: pip install 'conveyor[page]'") from error
    return convert(latex)
