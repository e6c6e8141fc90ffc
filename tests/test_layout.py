"""Who may import whom: an arrow that is not drawn here is not allowed."""

import ast
import sys
from pathlib import Path

import pytest

import conveyor

ROOT = Path(conveyor.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# What each part may import of the package: itself, and the parts named. A part is a file or a folder, or a folder of
# `targets`, none of which imports another.
ARROWS = {
    "errors": "",
    "figures": "errors",
    "packing": "",
    "compiler": "",
    "targets": "compiler packing",
    "targets/c": "compiler targets",
    "targets/js": "compiler",
    "targets/cpu": "compiler targets targets/c",
    "targets/cuda": "compiler targets targets/c",
    "targets/step": "compiler targets targets/c",
    "targets/torch": "compiler targets",
    "targets/registry": "targets targets/cpu targets/cuda",
    "cell": "packing",
    "layer": "cell compiler errors packing targets targets/registry targets/step targets/torch",
    "zoo": "cell errors layer",
    "nn": "cell errors layer packing zoo",
    "tasks": "errors",
    "training": "errors figures",
    "language": "cell errors layer tasks training zoo",
    "exporting": "cell compiler errors language layer tasks targets targets/c targets/js targets/step",
    "applications": "cell errors figures layer tasks training zoo",
    "bench": "cell errors layer nn targets targets/cpu zoo",
    "compare": "cell compiler errors figures layer tasks training zoo",
    "search": "cell compare compiler errors layer training zoo",
    "explain": "cell compiler errors figures language layer nn targets targets/js tasks training zoo",
    "cli": "applications bench compare compiler errors explain exporting language layer nn search tasks training zoo",
    "notebook": "cell errors explain layer",
    "__init__": "cell exporting layer nn notebook zoo",
    "__main__": "cli",
}
# What the parts may import from outside, besides Python's own library; the rest comes in extras, where it is used.
OUTSIDE = {
    "nn": "torch numpy onnx h5py google",
    "tasks": "torch numpy pydoc_data mido pyarrow pysword",
    "training": "torch numpy safetensors rich matplotlib IPython",
    "notebook": "pygments",
    "figures": "matplotlib",
    "applications": "torch numpy matplotlib sacrebleu",
    "targets/js": "torch numpy",
    "exporting": "torch numpy onnx onnx_ir onnxruntime onnxscript",
    "bench": "torch numpy rich matplotlib jax onnx onnxruntime",
    "compare": "torch numpy matplotlib optuna scipy sqlalchemy",
    "search": "torch numpy",
    "explain": "torch numpy safetensors latex2mathml matplotlib resvg_py starlette uvicorn",
    "cli": "torch typer rich",
}


def part(path):
    """Of a file or a module, by the names on its path."""
    two = "/".join(path[:2])
    return two if two in ARROWS else path[0]


def part_of_file(file):
    return part([name.removesuffix(".py") for name in file.relative_to(ROOT).parts])


def imports(file):
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_follow_the_arrows(file):
    here = part_of_file(file)
    for name in imports(file):
        first, *rest = name.split(".")
        if first == "conveyor":
            assert part(rest) in {here, *ARROWS[here].split()}, f"{here} imports {name}"
        elif first not in sys.stdlib_module_names or first == "pydoc_data":
            assert first in OUTSIDE.get(here, "torch").split(), f"{here} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_part_knows_by_a_path_where_a_file_of_another_is(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        climbs = isinstance(node, ast.Attribute) and (
            node.attr == "parents" or (node.attr == "parent" and isinstance(node.value, ast.Attribute))
        )
        assert not climbs or "__file__" not in ast.unparse(node), f"{file}: {ast.unparse(node)}"


def test_the_arrows_have_no_circle():
    done: list[str] = []
    while len(done) < len(ARROWS):
        ready = [name for name, arrows in ARROWS.items() if name not in done and set(arrows.split()) <= set(done)]
        assert ready, f"a circle among {set(ARROWS) - set(done)}"
        done += ready


def test_files_and_functions_are_short():
    for file in FILES:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 500, file
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{file}: {node.name}"
