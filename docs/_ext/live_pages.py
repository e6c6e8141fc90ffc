"""The pages that tutorials write into their folder `live` become part of the site, at the same place."""

import shutil
from pathlib import Path


def copy(app, error):
    """After the build."""
    source = Path(app.srcdir)
    for folder in () if error else source.glob("*/live"):
        shutil.copytree(folder, Path(app.outdir) / folder.relative_to(source), dirs_exist_ok=True)


def setup(app):
    """Called by Sphinx."""
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True}
