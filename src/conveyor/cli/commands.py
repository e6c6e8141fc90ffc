"""The entry point, and the commands train, run, evaluate, generate, cells, show and bench."""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.text import Text

from conveyor import language
from conveyor.applications import applications
from conveyor.bench import earlier, plot, report, suite
from conveyor.bench import plan as planning
from conveyor.bench.contenders import CONTENDERS, ON_REQUEST, check_cells, choose
from conveyor.bench.results import Results
from conveyor.cli import exports, pages, pictures, studies
from conveyor.cli.options import Device, RunFolder, folder_name
from conveyor.errors import BadInput, suggest
from conveyor.language.job import Language
from conveyor.language.trained import load
from conveyor.layer.stream import KINDS
from conveyor.tasks.text import UNKNOWN
from conveyor.training import progress
from conveyor.training import train as training
from conveyor.training.job import TrainingJob
from conveyor.training.parallel import find_device
from conveyor.training.settings import TrainingSettings, flag, own_first, read_toml
from conveyor.zoo import CELLS
from conveyor.zoo.find import create

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Recurrent networks from the equations of one step.",
)

# The class that Typer raises for unknown commands and flags and for values of the wrong type; it has no public name.
USAGE_ERRORS: Any = typer.BadParameter.__mro__[1]

WIDE = 200  # columns of a table that is written to a file


def _training(kind: type[TrainingJob], about: str, folder: Callable[[Any], str]) -> Callable[..., None]:
    """The command that trains this kind of job, with a flag for every setting. `folder` is the default under runs/."""

    def command(
        config: Annotated[Path | None, typer.Option(help="a TOML file of settings; flags override it")] = None,
        out: Annotated[
            Path | None, typer.Option(metavar="PATH", parser=folder_name, help="the run's folder [default: in runs/]")
        ] = None,
        resume: Annotated[
            Path | None,
            typer.Option(metavar="RUN", parser=folder_name, help="resume this run as if it had never stopped"),
        ] = None,
        force: Annotated[bool, typer.Option("--force", help="overwrite a run that is already in the folder")] = False,
        **flags: Any,
    ) -> None:
        given = {name: value for name, value in flags.items() if value is not None and value != []}
        if resume is not None and (given or config or out or force):
            named = [flag(name) for name in given] + ["--config"] * bool(config) + ["--out"] * bool(out)
            named += ["--force"] * force
            raise BadInput(f"--resume uses the settings of the run: omit {', '.join(named)}")
        of = kind.settings_type.of
        settings = of(read_toml(config), str(config)) if config else kind.settings_type()
        settings = of({**settings.to_dict(), **given}, "the command line")
        _train(kind, settings, out or Path("runs") / folder(settings), resume, force)

    command.__doc__ = about
    return _with_flags(command, kind)


def _train(kind: type[TrainingJob], settings: TrainingSettings, out: Path, resume: Path | None, force: bool) -> None:
    shown = progress.for_terminal(kind.unit)
    try:
        result = training.resume(kind, resume, shown) if resume else training.start(kind, settings, out, shown, force)
    finally:
        shown.end()
    if result.signal is not None:
        shown.note(f"stopped at step {result.step} and saved; resume with: {kind.command} --resume {resume or out}")
        raise SystemExit(128 + result.signal)
    shown.note(result.summary)


def _with_flags(command: Any, kind: type[TrainingJob]) -> Any:
    """The command with a flag for every setting of the job instead of its **flags."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for setting in own_first(kind.settings_type):
        meaning = setting.metadata["meaning"]
        if setting.name == "text":
            what: Any = Annotated[
                list[str] | None, typer.Argument(metavar="[TEXT]...", help=meaning, show_default=False)
            ]
        else:
            default = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
            option = typer.Option(help=meaning, show_default=default)
            what = Annotated[type(setting.default) | None, option]
        parameters.append(
            inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=what)
        )
    command.__signature__ = signature.replace(parameters=parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


app.command("train")(
    _training(
        Language,
        "Train a language model on TEXT: files, folders, corpora (pydoc, stdlib, agreement) or - for standard input.",
        lambda settings: settings.cell.rpartition(":")[2].lower(),
    )
)


def _named(name: str, _: TrainingSettings) -> str:
    return name


runs = typer.Typer(help="Train a network from the literature on a small real task and write figures and pictures.")
app.add_typer(runs, name="run")
for _name, _kind in applications().items():
    runs.command(_name)(_training(_kind, inspect.getdoc(_kind) or "", partial(_named, _name)))


@app.command()
def evaluate(
    run: RunFolder,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="default: the run's held-out text")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    weights: Annotated[
        str, typer.Option(help="float32; or bfloat16, int8: also measured as a stream that stores its matrices so")
    ] = "float32",
    device: Device = "auto",
) -> None:
    """Measure a trained model: loss in nats, bits per character, perplexity."""
    if weights not in KINDS:
        raise BadInput(f"--weights is {', '.join(KINDS)}, not {weights}")
    device = find_device(device) if weights == "float32" else "cpu"
    trained = load(run, device)
    tokens, lengths = trained.tokens(text or ())
    began = time.perf_counter()
    loss = language.loss(trained.model, tokens.to(device))
    speed = (len(tokens) - 1) / (time.perf_counter() - began)
    measure = language.Measure(loss, len(tokens) - 1, int(lengths[1:].sum()))
    unknown = tokens[1:].tolist().count(trained.vocabulary.unknown) / measure.tokens
    figures = {
        "loss": measure.loss,
        "bits_per_character": measure.bits_per_character,
        "perplexity": measure.perplexity,
        "tokens": measure.tokens,
        "characters": measure.characters,
        "unknown": unknown,
        "tokens_per_second": speed,
    }
    if weights != "float32":
        stored = language.loss(trained.model, tokens, weights)
        figures[weights] = language.Measure(stored, measure.tokens, measure.characters).bits_per_character
    if as_json:
        print(json.dumps(figures))
        return
    print(f"loss                {measure.loss:.4f} nats a token")
    print(f"bits per character  {measure.bits_per_character:.4f}")
    print(f"perplexity          {measure.perplexity:.3f}")
    if weights != "float32":
        more = figures[weights] - measure.bits_per_character
        print(f"in {weights:16} {figures[weights]:.4f} bits per character, {more:+.4f}")
    if unknown:
        print(
            f"unknown             {unknown:.1%} of the words, which the model need not spell: the figures are too good"
        )
    print(f"{measure.tokens:,} tokens, {speed:,.0f} tokens/s", file=sys.stderr)


@app.command()
def generate(
    run: RunFolder,
    prompt: Annotated[str | None, typer.Option(help="the text to continue [default: a new line]")] = None,
    length: Annotated[int, typer.Option(min=0, help="tokens to generate")] = 500,
    temperature: Annotated[
        float, typer.Option(min=0, help="below 1: less random; 0: always the most likely token")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="sample from the k most likely tokens only; 0: from all")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, max=2**64 - 1, help="for reproducible text")] = None,
    device: Device = "auto",
) -> None:
    """Generate text from a trained model, continuing a prompt."""
    if not math.isfinite(temperature):
        raise BadInput(f"--temperature must be a finite number, not {temperature}")
    device = find_device(device)
    trained = load(run, device)
    vocabulary = trained.vocabulary
    prompt = vocabulary.opening() if prompt is None else prompt
    try:
        start = vocabulary.encode(prompt.encode())
    except UnicodeEncodeError as error:
        raise BadInput("the prompt is not valid UTF-8: use a terminal with UTF-8") from error
    if not len(start):
        raise BadInput("the prompt is empty: give at least one character")
    if vocabulary.unknown in start.tolist():
        print(f"the model does not know a word of the prompt and reads {UNKNOWN} instead", file=sys.stderr)
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    began = time.perf_counter()
    print(prompt, end="", flush=True)
    drawn = language.generate(trained.model, start.to(device), length, temperature, top_k, generator)
    try:
        for piece in vocabulary.decode(drawn):
            print(piece, end="", flush=True)
        print(flush=True)
    except BrokenPipeError:  # a reader such as `head` has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    speed = (len(start) + length) / (time.perf_counter() - began)
    print(f"{length:,} tokens generated, {speed:,.0f} tokens/s", file=sys.stderr)


@app.command()
def cells(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List the built-in cells."""
    about = {name: inspect.getdoc(cell).partition("\n")[0] for name, cell in CELLS.items()}  # type: ignore[union-attr]
    if as_json:
        print(json.dumps([{"name": name, "class": CELLS[name].__name__, "about": about[name]} for name in about]))
        return
    width = max(map(len, about))
    for name, line in about.items():
        print(f"{name:{width}}  {line}")


@app.command()
def show(
    cell: Annotated[str, typer.Argument(help="a cell's name, or file.py:ClassName")],
    stage: Annotated[str, typer.Option(help="graph, backward, plan or source")] = "plan",
    input_size: Annotated[int, typer.Option(min=1)] = 32,
    hidden_size: Annotated[int, typer.Option(min=1)] = 128,
    inference: Annotated[bool, typer.Option("--inference", help="compile without a backward pass")] = False,
    target: Annotated[str, typer.Option(help="cpu or cuda: of which kernels a plan or a source is shown")] = "cpu",
) -> None:
    """Show a stage of compiling a cell."""
    from conveyor.compiler import CannotCompile
    from conveyor.layer.compilation import compile

    stages = ("graph", "backward", "plan", "source")
    targets = ("cpu", "cuda")
    if stage not in stages:
        raise BadInput(f"no stage is called {stage}: {suggest(stage, stages)}")
    if target not in targets:
        raise BadInput(f"no target is called {target}: {suggest(target, targets)}")
    try:
        made = compile(create(cell, input_size, hidden_size), training=not inference, target=target)
        print(getattr(made, stage))
    except BadInput:
        raise
    except (CannotCompile, TypeError, ValueError) as error:
        raise BadInput(f"{cell}: {error}") from error


@app.command()
def bench(
    cell: Annotated[list[str] | None, typer.Option(help="a cell's name, or file.py:ClassName [default: lstm]")] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="T,B,I,H", help="steps, rows, input and hidden size [default: eight shapes]"),
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="[default: 1 and all]")] = None,
    mode: Annotated[str | None, typer.Option(help="training, inference or both [default: both]")] = None,
    against: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(CONTENDERS)} [default: all but {', '.join(ON_REQUEST)}]")
    ] = None,
    seconds: Annotated[float, typer.Option(help="time for each shape, mode and number of threads")] = 10.0,
    against_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="measure again what --json wrote into FILE, and compare: now / then"),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write all figures as JSON; - prints them instead"),
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="plot time against T, B and H; takes longer")
    ] = None,
) -> None:
    """Time layers against torch.nn, ONNX Runtime, JAX and other implementations.

    --cell, --shape, --threads and --against can be given several times. With --against-file they are, where not given,
    those of the file.
    """
    if not 0 <= seconds < math.inf:
        raise BadInput(f"--seconds must be finite and at least 0, not {seconds}")
    then = None if against_file is None else earlier.read(against_file)
    if then is not None:
        usual = earlier.plan(then)
    else:
        usual = planning.Plan(threads=planning.check_threads([]), against=choose([]))
    plan = planning.Plan(
        cells=tuple(dict.fromkeys(cell or usual.cells)),
        shapes=tuple(dict.fromkeys(map(planning.Shape.of, shape))) if shape else usual.shapes,
        threads=planning.check_threads(threads) if threads else usual.threads,
        modes=planning.check_mode(mode) if mode is not None else usual.modes,
        against=choose(against) if against else usual.against,
        seconds=seconds,
        sweeps=plot_file is not None,
    )
    if then is not None:
        earlier.check(plan, then)
    check_cells(plan.cells, plan.shapes[0])
    for name, file in (("--json", json_file), ("--plot", plot_file)):
        _check_new(name, file)
    if plot_file is not None:
        plot.check(plot_file)
    _measure(plan, then, json_file, plot_file)


def _check_new(name: str, file: Path | None) -> None:
    """Raises BadInput if the file exists or cannot be created. Called before measuring, which takes minutes."""
    if file is None or str(file) == "-":
        return
    if file.exists():
        raise BadInput(f"{name} {file}: the file exists already; use another name, or remove it")
    if not file.parent.is_dir():
        raise BadInput(f"{name} {file}: the folder {file.parent} does not exist; create it first")


def _measure(plan: planning.Plan, then: Results | None, json_file: Path | None, plot_file: Path | None) -> None:
    """Measures and shows the results, also partial results after an interrupt or error, which it then raises again."""
    results, console = Results(), Console(stderr=True)
    ended: BaseException | None = None
    try:
        if console.is_terminal:
            with console.status("measuring") as status:
                suite.run(plan, results, lambda text: status.update(Text(text)))
        else:
            suite.run(plan, results, lambda text: print(text, file=sys.stderr, flush=True))
    except (KeyboardInterrupt, BadInput) as error:
        ended = error
    compared = {} if then is None else {"against_file": earlier.to_dict(then, results)}
    text = json.dumps(results.to_dict() | compared, indent=1)
    if str(json_file) == "-":
        print(text)
    else:
        out = Console()
        out = out if out.is_terminal else Console(width=WIDE)
        report.show(results, out)
        if then is not None:
            report.show_against(then, results, out)
        if json_file is not None:
            json_file.write_text(text + "\n", encoding="utf-8")
    if plot_file is not None:
        plot.draw(results, plot_file)
    if ended is not None:
        raise ended


app.command("compare")(studies.compare)
app.command("search")(studies.search)
app.command("explain")(pages.explain)
app.command("export")(exports.export)
app.command("draw")(pictures.draw)


def main() -> None:
    """Runs the command. Invalid input ends with one line on standard error and exit code 2, never with a traceback."""
    if sys.argv[1:] in ([], ["run"]):
        sys.argv.append("--help")
    warnings.showwarning = _tell
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # print ? for characters that the terminal cannot encode
    try:
        code = app(standalone_mode=False)
    except USAGE_ERRORS as error:
        _fail(error.format_message())
    except BadInput as error:
        _fail(str(error))
    except OSError as error:
        file = error.filename or "a file"
        _fail(f"{file}: {error.strerror or error}: fix that and try again; everything saved so far is kept")
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _fail(message: str) -> None:
    _tell(message)
    sys.exit(2)


def _tell(message: Warning | str, *_where: Any, **_line: Any) -> None:
    """Prints an error or warning as one line, without its position in the code."""
    print(f"conveyor: {' '.join(str(message).split())}", file=sys.stderr)
