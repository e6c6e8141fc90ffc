"""How much a prediction depends on each earlier token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.record import eval_mode, predict, resolve
from conveyor.language import LanguageModel
from conveyor.language.trained import Trained

ROWS = 64  # predictions that are computed at once


def connectivity(
    model: LanguageModel | Trained,
    text: str | bytes | Tensor,
    at: Sequence[int] = (-1,),
    targets: Sequence[int] | None = None,
) -> Tensor:
    """How much a prediction depends on each earlier token: the norm of its gradient with respect to the embedding.

        connectivity(trained, "the keys to the cabinet")            # [1, T]: the prediction after the last token
        connectivity(trained, tokens, at=range(len(tokens)))        # [T, T]: every prediction, one per row

    `text`: a text, or token numbers [T]. `at`: the positions after which predictions are made; negative ones count from
    the end. `targets`: the tokens whose log-probabilities are differentiated; None: the likeliest ones. Returns
    [len(at), T], zero for later tokens. After Madsen 2019, "Visualizing memorization in RNNs" (Distill), who uses
    logits.

    Raises BadInput as `record` does, and for a position outside the text.
    """
    reader, tokens, _ = resolve(model, text)
    if tokens.dim() != 1:
        raise BadInput(f"one text is expected, tokens [T], not {list(tokens.shape)}")
    places = [place + len(tokens) if place < 0 else place for place in at]
    if not places or not all(0 <= place < len(tokens) for place in places):
        raise BadInput(f"positions are 0 to {len(tokens) - 1}, or from the end -1 to {-len(tokens)}, not {list(at)}")
    if targets is not None and len(targets) != len(places):
        raise BadInput(f"there are {len(places)} predictions, but {len(targets)} targets")
    with eval_mode(reader):
        parts = [
            _rows(reader, tokens, places[i : i + ROWS], None if targets is None else targets[i : i + ROWS])
            for i in range(0, len(places), ROWS)
        ]
    return torch.cat(parts)


def _rows(model: LanguageModel, tokens: Tensor, places: list[int], targets: Sequence[int] | None) -> Tensor:
    """[places, T]: copies of the text as a batch, one for each prediction."""
    read = tokens[: max(places) + 1]
    embedded = model.embedding(read).detach()[:, None].repeat(1, len(places), 1).requires_grad_()  # [T, places, E]
    output, *_ = model.rnn(embedded)
    rows = torch.arange(len(places))
    log_probs = predict(model, output[torch.tensor(places), rows])  # [places, vocabulary]
    chosen = log_probs.argmax(-1) if targets is None else torch.as_tensor(targets, device=log_probs.device)
    (gradient,) = torch.autograd.grad(log_probs[rows, chosen].sum(), embedded)
    found = gradient.new_zeros(len(places), len(tokens))
    found[:, : len(read)] = gradient.norm(dim=-1).t()
    return found
