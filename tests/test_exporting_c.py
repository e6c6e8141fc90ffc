"""What is exported to C: equal for every cell, without a warning by any compiler, without memory of its own."""

import shutil
import subprocess

import pytest
import torch

import conveyor
from cases import CASES, PAPERS, extra_inputs
from conveyor import zoo
from conveyor.exporting.c import STRICT, text
from conveyor.language import LanguageModel
from op_cells import driven
from tiers import quick, slow
from tolerance import assert_equal

EVERY = CASES | PAPERS
FEW = ["lstm", "lstm-projected", "gru", "clockwork", "own, with streams", "own, with extra outputs", "own, nested"]


def exported(layer, folder, **options):
    conveyor.export(layer, folder, to="c", **options)
    return folder


def compiled(folder, *command, more=()):
    """main.c and the export, by a compiler."""
    (source,) = (file for file in folder.glob("*.c") if file.name != "main.c")
    program = folder / "program"
    done = subprocess.run(
        [*command, str(folder / "main.c"), str(source), *more, "-o", str(program), "-lm"],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[:2000]
    return program


def printed(program, x, *run):
    text = "\n".join(" ".join(map(str, row)) for row in x.tolist())
    done = subprocess.run([*run, str(program)], input=text, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return torch.tensor([[float(number) for number in line.split()] for line in done.stdout.splitlines()])


@pytest.mark.parametrize("name", quick(EVERY, FEW))
def test_the_export_of_a_cell_is_proved(name, tmp_path):
    """The proof is part of the export, which compiles with every warning an error."""
    layer = EVERY[name].layer(3, 6, num_layers=2).eval()
    further = extra_inputs(layer, 4, 1)
    inputs = {name: v.float() if v.is_floating_point() else v for name, v in further.items()}
    report = conveyor.export(layer, tmp_path / "out", to="c", inputs=inputs)
    assert report.proof.error <= 1e-5
    assert report.proof.steps == 200


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    "compiler", [("gcc", *STRICT), ("g++", "-x", "c++", *STRICT[1:]), ("gcc", *STRICT, "-DCONVEYOR_SCALAR")]
)
def test_every_compiler_takes_it_and_its_program_gives_the_outputs(compiler, weights, tmp_path):
    """C++ too, and without vectors."""
    layer, x = conveyor.LSTM(3, 21, num_layers=2), torch.randn(7, 3)
    program = compiled(exported(layer, tmp_path / "out", weights=weights), *compiler, "-O2")
    with torch.no_grad():
        wanted = layer.stream(weights=weights).run(x)
    assert_equal(printed(program, x), wanted, table={torch.float32: 2e-5})


@slow
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_it_is_clean_under_sanitizers_and_allocates_nothing(weights, tmp_path):
    """A malloc that ends the program is in the place of the C library's; the example prints by a static buffer."""
    layer, x = conveyor.GRU(5, 33), torch.randn(6, 5)
    folder = exported(layer, tmp_path / "out", weights=weights)
    checks = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    checked = printed(compiled(folder, "gcc", *STRICT, *checks), x)
    (folder / "main.c").write_text(STINGY.replace("NAME", "gru").replace("SIZE", str(x.numel())))
    numbers = printed(compiled(folder, "gcc", "-std=gnu99", "-O2"), x)
    assert_equal(numbers, checked, table={torch.float32: 2e-5})


STINGY = """
#include "NAME.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static int stingy;
extern void *__libc_malloc(size_t);
void *malloc(size_t n) { if (stingy) _exit(9); return __libc_malloc(n); }
static NAME_state state;
static float x[SIZE], y[33 * SIZE / 5];
int main(void) {
  for (int i = 0; i < SIZE; i++) if (scanf("%f", x + i) != 1) return 1;
  stingy = 1;
  NAME_reset(&state);
  NAME_run(&state, SIZE / 5, x, y);
  stingy = 0;
  for (int t = 0; t < SIZE / 5; t++, printf("\\n"))
    for (int i = 0; i < 33; i++) printf(i ? " %.6g" : "%.6g", y[33 * t + i]);
  return sizeof state == NAME_STATE_BYTES_ ? 0 : 2;
}
""".replace("NAME_STATE_BYTES_", "GRU_STATE_BYTES")


def test_a_language_model_takes_tokens(tmp_path):
    model = LanguageModel(11, zoo.LSTM, 9)
    folder = exported(model, tmp_path / "out")
    tokens = torch.tensor([[3], [0], [10], [5]])
    with torch.no_grad():
        wanted, _ = model(tokens)
    found = printed(compiled(folder, "gcc", *STRICT), tokens)
    assert_equal(found, wanted[:, 0], table={torch.float32: 2e-5})


def test_learnt_first_states_and_float64_layers(tmp_path):
    layer = conveyor.Recurrent(zoo.GRU, 3, 5, learn_initial_state=True, dtype=torch.float64)
    with torch.no_grad():
        layer.initial_state["h"].normal_()
    x = torch.randn(4, 3)
    found = printed(compiled(exported(layer, tmp_path / "out"), "gcc", *STRICT), x)
    with torch.no_grad():
        wanted, _ = layer(x[:, None].double())
    assert_equal(found, wanted[:, 0].float(), table={torch.float32: 2e-5})


def test_a_wrong_choice_of_weights_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="int8, not int4"):
        conveyor.export(conveyor.LSTM(2, 3), tmp_path / "out", to="c", weights="int4")
    assert not list(tmp_path.iterdir())


ARM = [("aarch64-linux-gnu-gcc", "qemu-aarch64"), ("arm-linux-gnueabihf-gcc", "qemu-arm")]


@slow
@pytest.mark.parametrize(("compiler", "machine"), ARM)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_arm(compiler, machine, kind, tmp_path):
    """Where Debian's cross compiler and qemu are installed, as scripts/test does."""
    if shutil.which(compiler) is None or shutil.which(machine) is None:
        pytest.skip(f"{compiler} and {machine} are not installed")
    layer, x = getattr(conveyor, kind)(4, 18), torch.randn(6, 4)
    program = compiled(exported(layer, tmp_path / "out"), compiler, *STRICT, "-O2", "-static")
    with torch.no_grad():
        wanted, _ = layer(x)
    assert_equal(printed(program, x, machine), wanted, table={torch.float32: 2e-5})


def test_weights_in_a_file(tmp_path):
    """A file of other weights of the same network fits; one that is cut, or of another network, is refused."""
    layer, x = conveyor.LSTM(3, 21, num_layers=2), torch.randn(7, 3)
    folder = exported(layer, tmp_path / "out", weights="int8", inline=False)
    program = compiled(folder, "gcc", *STRICT)
    (folder / "lstm.bin").rename(folder / "first.bin")
    for name, made in [("first.bin", layer), ("lstm.bin", conveyor.LSTM(3, 21, num_layers=2))]:
        if name == "lstm.bin":
            exported(made, tmp_path / "other", weights="int8", inline=False)
        (folder / "lstm.bin").write_bytes(((folder if made is layer else tmp_path / "other") / name).read_bytes())
        with torch.no_grad():
            wanted = made.stream(weights="int8").run(x)
        assert_equal(printed_in(folder, program, x), wanted, table={torch.float32: 2e-5})
    exported(conveyor.LSTM(4, 21, num_layers=2), tmp_path / "wider", weights="int8", inline=False)
    whole = (folder / "lstm.bin").read_bytes()
    for wrong in (whole[:-4], whole + b"....", bytes(len(whole)), (tmp_path / "wider" / "lstm.bin").read_bytes()):
        (folder / "lstm.bin").write_bytes(wrong)
        done = subprocess.run([str(program)], input="", capture_output=True, text=True, cwd=folder)
        assert done.returncode == 1
        assert "not of this network" in done.stderr


def printed_in(folder, program, x):
    return printed(program, x, "env", "-C", str(folder))


def test_a_language_model_whose_weights_are_in_a_file(tmp_path):
    model = LanguageModel(11, zoo.LSTM, 9)
    report = conveyor.export(model, tmp_path / "out", to="c", inline=False)
    assert report.proof.error <= 1e-5
    assert report.files["lstm.bin"] > 9 * 11 * 4


CONSTANT = ("register", "stdin", "mem")
AWKWARD = [  # names that C or C++, the text of the step or the example have
    "weights", "WIDE", "NARROW", "LANES", "FEW", "real", "idx", "size", "token", "bitand", "compl",
    "and_eq", "wchar_t", "decltype", "noexcept", "thread_local", "static_assert", "concept",
    "printf", "scanf", "file", "steps", "row", "main", "γ",
]  # fmt: skip


@pytest.mark.parametrize("inline", [False, True])
def test_names_that_c_has_taken(inline, tmp_path):
    layer = conveyor.Recurrent(driven(*CONSTANT, *AWKWARD, constant=CONSTANT), 2, 3)
    report = conveyor.export(layer, tmp_path / "out", to="c", inline=inline)
    assert report.proof.error <= 1e-5
    compiled(tmp_path / "out", "g++", "-x", "c++", *STRICT[1:])
    assert all((tmp_path / "out" / name).read_text().isascii() for name in ("driven.h", "driven.c", "main.c"))


def test_names_that_would_be_one_in_c(tmp_path):
    with pytest.raises(ValueError, match=r"Drive_in and drive_in would both have the size DRIVEN_DRIVE_IN_SIZE"):
        conveyor.export(conveyor.Recurrent(driven("drive", "Drive"), 2, 3), tmp_path / "out", to="c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["head", "resize", "UPPER_name", "stdio"])
def test_any_name(name, tmp_path):
    layer, x = conveyor.GRU(2, 3), torch.randn(4, 2)
    folder = exported(layer, tmp_path / "out", name=name, inline=False)
    made = subprocess.run(["make", "-C", str(folder)], capture_output=True, text=True)
    assert not made.returncode, made.stderr
    with torch.no_grad():
        wanted, _ = layer(x)
    assert_equal(printed_in(folder, folder / "main", x), wanted, table={torch.float32: 2e-5})


def test_all_that_was_written_is_compiled_once(tmp_path, monkeypatch):
    commands, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **more: commands.append(command) or run(command, **more))
    conveyor.export(conveyor.GRU(2, 3), tmp_path / "out", to="c")
    assert len(commands) == 1
    monkeypatch.setattr(text, "_example", lambda *_: "int main(void) { return unknown; }\n")
    with pytest.raises(RuntimeError, match=r"main\.c.*unknown"):
        conveyor.export(conveyor.GRU(2, 3), tmp_path / "other", to="c")


@pytest.mark.parametrize(("name", "counts"), [("clockwork", True), ("gru", False)])
def test_the_header_says_how_far_steps_are_counted(name, counts, tmp_path):
    exported(CASES[name].layer(3, 6), tmp_path / "out", name="made")
    assert ("2^24 steps" in (tmp_path / "out" / "made.h").read_text()) == counts


@pytest.mark.parametrize("name", ["main", "Main"])
def test_a_name_that_the_example_has(name, tmp_path):
    with pytest.raises(ValueError, match=r"main\.c is the example"):
        conveyor.export(conveyor.GRU(2, 3), tmp_path / "out", to="c", name=name)
