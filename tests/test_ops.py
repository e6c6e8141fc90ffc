"""Every operation has its entry in every table of those who interpret it: to add one, follow what these tests print."""

import pytest

import conveyor
from conveyor.compiler.ops import OPS
from conveyor.explain.circuit import LABELS, SEEN_OTHERWISE, WHOLE
from conveyor.explain.formula import FUNCTIONS, OPERATIONS
from conveyor.exporting.onnx.spelling import SPELLING as ONNX
from conveyor.exporting.onnx.spelling import WRITTEN as ONNX_WRITTEN
from conveyor.targets.c.spelling import SPELLING as C
from conveyor.targets.js.emit import SPELLING as JAVASCRIPT
from conveyor.targets.js.emit import WRITTEN
from op_cells import OPS as SPELLINGS
from op_cells import SHAPED, op_cell

MOVES = {"copy", "fill", "store", "accumulate"}  # what an emitter writes in a loop, and is no operation of a graph
LATER = {"sum_to_shape", "weight_gradient", "gemm"}  # made by differentiation and simplification, and in no step

POINTWISE = {name for name, op in OPS.items() if op.kind == "pointwise"}
OF_A_STEP = OPS.keys() - LATER - {"input"}
DRAWN = OF_A_STEP - set(SEEN_OTHERWISE) - {"const"}
# What has an entry, and what must have one.
TABLES = {
    "SPELLING in targets/cpu/emit.py": (C.keys() - MOVES, POINTWISE),
    "SPELLING in targets/js/emit.py": (JAVASCRIPT.keys(), POINTWISE),
    "WRITTEN in targets/js/emit.py": (WRITTEN.keys(), OF_A_STEP - POINTWISE),
    "SPELLING in exporting/onnx/spelling.py": (ONNX.keys(), POINTWISE),
    "WRITTEN in exporting/onnx/spelling.py": (ONNX_WRITTEN.keys(), OF_A_STEP - POINTWISE),
    "LABELS in explain/circuit.py": (LABELS.keys(), DRAWN | set(WHOLE)),
    "OPERATIONS or FUNCTIONS in explain/formula.py": (
        {*OPERATIONS, *FUNCTIONS, "slice"},  # a slice is written by its bounds
        DRAWN | set(WHOLE),
    ),
    "the declared `value` in compiler/ops": (
        {name for name, op in OPS.items() if op.value is not None},
        OF_A_STEP | {"gemm"},
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_operation_has_its_entry(table):
    found, wanted = TABLES[table]
    missing, unknown = sorted(wanted - found), sorted(found - wanted)
    assert not missing, f"add {', '.join(missing)} to {table}"
    assert not unknown, f"{', '.join(unknown)} in {table} is no operation"


def test_every_operation_is_lowered_from_a_spelling_that_the_laws_try():
    """The laws of test_compiler_ops.py set the kernel and its gradients against PyTorch for each of these."""
    seen = set()
    for spellings in SPELLINGS.values():
        shapes = {name: (*size, 13) for name, size in SHAPED.items()}
        seen |= {node.op for node in conveyor.compile(op_cell(spellings[0])(3, 13), shapes=shapes).traced.nodes}
    missing = sorted(OF_A_STEP - seen - {"pad"})  # which the derivative of a slice makes
    assert not missing, f"add what makes {', '.join(missing)} to compiler/lower, and its line to tests/op_cells.py"


@pytest.mark.parametrize("table", [C, JAVASCRIPT], ids=["C", "JavaScript"])
def test_a_spelling_uses_each_argument(table):
    for name, spelling in table.items():
        given = [f"<{i}>" for i in range(OPS[name].arity if name in OPS else 1)]
        text = spelling.format(*given)
        assert all(argument in text for argument in given), name


@pytest.mark.parametrize("name", OPS)
def test_a_declaration_is_whole(name):
    op = OPS[name]
    assert op.cost >= 0
    assert op.is_finite or not op.keeps_zero
    if op.kind == "pointwise":
        assert op.shape([(4, 3), (3,), ()][: op.arity], (), ()) == (4, 3)
