"""The page of networks that a caller gives, with what is said of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from conveyor.errors import BadInput
from conveyor.explain.page import foreign
from conveyor.explain.page.assemble import Shown, document
from conveyor.explain.page.outcomes import NextToken, Numbers, Outcome
from conveyor.explain.page.sequences import Given, Series, Text, sequences
from conveyor.explain.running.network import describe

MOST = 2  # networks of a page


def page_of(
    model: nn.Module | Mapping[str, nn.Module],
    inputs: Any,
    output: Any,
    places: dict[str, Any],
    check: bool,
    title: str,
) -> str:
    """The HTML of `conveyor.explain.page`, which has the arguments. Raises BadInput."""
    given = sequences(inputs)
    models = dict(model) if isinstance(model, Mapping) else {type(model).__name__: model}
    if not 0 < len(models) <= MOST:
        raise BadInput(f"a page shows one network or two, not {len(models)}")
    if output is not None and not isinstance(output, Outcome):
        raise BadInput(f"output is Classes, Numbers, Labels or NextToken, not {type(output).__name__}")
    shown = [_shown(str(name), one, given, output, places, check) for name, one in models.items()]
    return document(title or " and ".join(map(str, models)), shown, **_sequence(given, output))


def _shown(
    name: str, model: nn.Module, given: list[Given], output: Outcome | None, places: dict[str, Any], check: bool
) -> Shown:
    first = given[0]
    output = NextToken() if output is None and isinstance(first, Text) else output
    said = {} if output is None else output.data(first)
    count = len(first.vocabulary) if isinstance(first, Text) and said["kind"] == "token" else len(said.get("names", ()))
    network = foreign.read(model, first, said.get("kind", ""), count, **places)
    if check and model is not places["layer"]:
        foreign.check(model, network, first)
    output = Numbers([f"output {k + 1}" for k in range(network.count)]) if output is None else output
    return Shown(name, network, describe(network, first.reads, output.data(first)), first.inputs)


def _sequence(given: list[Given], output: Outcome | None) -> dict[str, Any]:
    """What is read, as `document` takes it."""
    first = given[0]
    if isinstance(first, Text):
        return {"text": first.text, "step": len(first.inputs) - 1}
    series = [one for one in given if isinstance(one, Series)]
    truths = [None if output is None else output.truth(one) for one in series]
    examples = [{**one.data, "truth": truth} for one, truth in zip(series, truths, strict=True)]
    return {"text": "", "step": len(first.values) - 1, "examples": examples}
