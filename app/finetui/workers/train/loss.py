"""The loss of a micro batch: over its trained tokens alone, with logits made for no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import cross_entropy

from .failure import Failure


def loss_sum(model: torch.nn.Module, head: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum of the cross entropy (nats) over the trained tokens of a batch of `data.collate` or `data.lay`.

    `head` is the layer of `model` that makes logits. No cache of keys and values is made: it would take memory, and
    position_ids keep packed rows apart only without one.
    """
    places = {"position_ids": batch["position_ids"]} if "position_ids" in batch else {}
    with _only(head, batch["positions"]):
        logits = model(input_ids=batch["input_ids"], use_cache=False, **places).logits
    return cross_entropy(logits.flatten(0, -2).float(), batch["targets"], reduction="sum")


def check_reached(model: torch.nn.Module) -> None:
    """Look for trained weights that the loss, made just before, has given no gradient.

    Raises Failure where there are any; torch's own words for it, at the next step, name none.
    """
    idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    if idle:
        detail = f"{len(idle)} trained weights have no part in the loss of text, so they would never move: {idle[0]}"
        raise Failure("error", f"{detail}; lock it with target_modules that are layers of the language model")


@contextmanager
def _only(head: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Within it, `head` is given [1, trained, hidden] in place of [rows, length, hidden]: the positions that count.

    What causal models do to logits after it (scaling, soft caps) is element by element, so it stays right.
    """

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions).unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
