"""How Sphinx builds the documentation; `scripts/docs` runs it."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import torch_names

project = "conveyor"
author = copyright = "The conveyor developers"
version = release = version_of("conveyor")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "generated",
    "live_pages",
    "mathml",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints", "**/runs", "**/report"]
default_role = "py:obj"  # `conveyor.Cell` in a docstring is a link, and anything else is code

# Markdown
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

# Pages with code that is executed: always, so that no output is older than the package.
nb_execution_mode = os.environ.get("CONVEYOR_DOCS_EXECUTION", "force")  # "off" to look at text and layout
suppress_warnings = ["myst-nb.lexer"] if nb_execution_mode == "off" else []  # then no kernel names the language
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
python_display_short_literal_types = True

# Links to PyTorch's documentation without fetching its inventory
intersphinx_mapping = {"torch": (torch_names.ADDRESS, str(torch_names.write(HERE / "_build" / "torch.inv")))}
intersphinx_disabled_reftypes = ["*"]  # only what is written as code is looked up

# The site
html_theme = "pydata_sphinx_theme"
html_title = "conveyor"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "conveyor"},
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "show_nav_level": 2,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
}
html_sidebars = {"index": []}
copybutton_exclude = ".linenos, .gp, .go"
