"""Every public definition of the package has a docstring."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import conveyor

ROOT = Path(conveyor.__file__).parent
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(ROOT.rglob("*.py"))}
CLASSES = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
DOCUMENTED_BY_THE_CLASS = {"forward", "step"}
PARTS = sorted({file.relative_to(ROOT).parts[0] for file in TREES})


def public(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def inherits_docstring(kind: ast.ClassDef, method: str) -> bool:
    """Whether a base class within the package documents the method."""
    bases = [CLASSES[base.id] for base in kind.bases if isinstance(base, ast.Name) and base.id in CLASSES]
    return any(
        any(node.name == method and ast.get_docstring(node) for node in public(base.body))
        or inherits_docstring(base, method)
        for base in bases
    )


def undocumented(tree: ast.Module) -> Iterator[str]:
    for node in public(tree.body):
        if not ast.get_docstring(node):
            yield f"{node.lineno}: {node.name}"
        for method in public(node.body) if isinstance(node, ast.ClassDef) else ():
            exempt = method.name in DOCUMENTED_BY_THE_CLASS or inherits_docstring(node, method.name)
            if not exempt and not ast.get_docstring(method):
                yield f"{method.lineno}: {node.name}.{method.name}"


@pytest.mark.parametrize("part", PARTS)
def test_public_definitions_have_docstrings(part):
    files = [file for file in TREES if file.relative_to(ROOT).parts[0] == part]
    assert files
    assert [f"{file.relative_to(ROOT)}:{found}" for file in files for found in undocumented(TREES[file])] == []
