"""Pages that are made of the package when the site is built: the command line, and the keys of TOML files."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import typer

from conveyor.applications import applications
from conveyor.cli.commands import app as commands
from conveyor.language.job import Language
from conveyor.training.settings import KINDS, TrainingSettings, own_first


def command_line() -> Iterator[str]:
    """Every command with its arguments and options, from Typer."""
    yield "# The command line\n\n`conveyor COMMAND --help` prints the same. Bad input ends a command with one line that"
    yield " says what to write instead, and the exit status 2.\n"
    yield from _commands(typer.main.get_command(commands), "conveyor", None)


def _commands(group, name, parent) -> Iterator[str]:
    context = group.context_class(group, info_name=name, parent=parent)
    for command in group.commands.values():
        whole = f"{name} {command.name}"
        if hasattr(command, "commands"):
            yield f"\n## {whole}\n\n{command.help}\n"
            yield from _commands(command, whole, context)
        else:
            yield from _command(command, whole, context)


def _command(command, name, parent) -> Iterator[str]:
    context = command.context_class(command, info_name=name.rpartition(" ")[2], parent=parent)
    yield f"\n## {name}\n\n{command.help}\n\n```text\n{name} {' '.join(command.collect_usage_pieces(context))}\n```\n\n"
    rows = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    yield "| | |\n|---|---|\n"
    for what, meaning in rows:
        meaning = re.sub(r"\[default: \((.*?)\)\]", r"[default: \1]", meaning)
        yield f"| `{' '.join(what.split())}` | {_cell(meaning)} |\n"


def settings() -> Iterator[str]:
    """The settings of every training job, from the classes that check them."""
    yield "# Settings\n\nEvery setting of a training run is a flag of its command and a key of a TOML file, "
    yield "`--config FILE`. Flags override the file. `config.toml` in the folder of a run lists them all.\n\n"
    yield '```toml\ncell = "gru"\nhidden_size = 256\nnum_layers = 2\ntext = ["letters/", "diary.txt"]\n```\n'
    yield "\nAn unknown key, a value of another type and one out of bounds are errors that name the key.\n"
    yield f"\n## Common to all\n\n{_table(fields(TrainingSettings))}"
    shared = {one.name for one in fields(TrainingSettings)}
    for name, job in {"train": Language, **{f"run {name}": kind for name, kind in applications().items()}}.items():
        base = TrainingSettings()
        own = [one for one in own_first(job.settings_type) if one.name not in shared]
        other = [f"`{key} = {_toml(value)}`" for key, value in job.settings_type().to_dict().items()
                 if key in shared and value != base.to_dict()[key]]  # fmt: skip
        yield f"\n## conveyor {name}\n\n{_table(own)}"
        yield f"\nDefaults that differ from those above: {', '.join(other)}.\n" if other else ""


def _table(found) -> str:
    rows = []
    for one in found:
        bounds, choices = one.metadata, one.metadata["choices"]
        limits = [f"{word} {bounds[key]:g}" for key, word in (("low", "from"), ("above", "above"), ("high", "to"))
                  if bounds[key] is not None]  # fmt: skip
        what = ", ".join(f'"{choice}"' for choice in choices) or " ".join([KINDS[type(one.default)], *limits])
        rows.append(f"| `{one.name}` | {what} | `{_toml(one.default)}` | {_cell(one.metadata['meaning'])} |\n")
    return "| key | value | default | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _toml(value) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;").replace("[", r"\[")


PAGES = {"command-line": command_line, "settings": settings}


def write(app):
    """Before Sphinx looks for pages."""
    for name, page in PAGES.items():
        path, text = Path(app.srcdir) / "reference" / f"{name}.md", "".join(page())
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
