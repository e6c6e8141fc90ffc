"""The documentation: every public name is in the reference, the site has no broken link, the tutorials run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import conveyor
from conveyor import explain
from tiers import slow

DOCS = Path(__file__).parent.parent / "docs"
CELL = re.compile(r"^```\{code-cell\}\n(?::.*\n)*(.*?)^```", re.MULTILINE | re.DOTALL)
EXECUTED = {  # tutorials that take seconds, and what they write; the others are executed when the site is built
    "tutorials/first-cell": (),
    "explanation/compiler": (),
}


def run(*command, folder, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    wanted = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"} | environment
    return subprocess.run(command, cwd=folder, env=wanted, capture_output=True, text=True)


@pytest.mark.parametrize(("module", "page"), [(conveyor, "layers"), (explain, "explain")])
def test_every_public_name_is_in_the_reference(module, page):
    text = (DOCS / "reference" / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", text, re.MULTILINE))
    assert set(module.__all__) == named


@slow
@pytest.mark.parametrize("page", EXECUTED)
def test_a_tutorial_runs(page, tmp_path):
    """As one program of IPython, which knows the lines that begin with an exclamation mark."""
    cells = CELL.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert len(cells) > 5
    (tmp_path / "page.ipy").write_text("\n".join(cells), encoding="utf-8")
    done = run(sys.executable, "-m", "IPython", "page.ipy", folder=tmp_path, IPYTHONDIR=str(tmp_path / "ipython"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    for name in EXECUTED[page]:
        assert (tmp_path / name).is_file(), done.stdout + done.stderr


@slow
def test_the_site_has_no_warning_and_no_broken_link(tmp_path):
    """Without executing the tutorials: the live pages that these write are not there."""
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees")]
    done = run(*sphinx, str(DOCS), str(tmp_path / "site"), folder=tmp_path, CONVEYOR_DOCS_EXECUTION="off")
    assert done.returncode == 0, done.stderr
    checked = run(sys.executable, str(DOCS / "_ext" / "links.py"), str(tmp_path / "site"), folder=tmp_path)
    counts, *broken = checked.stdout.splitlines()
    assert int(counts.split()[0]) > 30
    assert [link for link in broken if link and "live/" not in link] == []
