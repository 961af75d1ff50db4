"""Whether a model keeps packed rows apart: tried out on it, since not every architecture does."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .failure import Failure

_LENGTH = 8
_MOST = 0.01
"""Rounding stays far below it (1e-6 where experts are grouped anew), a row that is seen above (Bloom: 0.013)."""


def check_apart(model: PreTrainedModel) -> None:
    """Change the first row of a pack, and see whether that changes what the second one predicts.

    Layers with a state of their own (linear attention, Mamba) carry it from row to row, and some architectures make
    their mask without looking at position_ids (gpt-oss).

    Raises Failure where a row sees the one before it.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        one, other = (_second_row(model, first) for first in (0, _LENGTH))
    model.train(was_training)
    changed = ((one - other).norm() / (one - one.mean(0)).norm()).item()
    if not changed <= _MOST:
        kinds = sorted(set(getattr(model.config.get_text_config(), "layer_types", None) or []))
        layers = f" (its layers: {', '.join(kinds)})" if kinds else ""
        name = model.config.architectures[0] if model.config.architectures else model.config.model_type
        raise Failure(
            "error", f"packing: rows of a pack would see each other in {name}{layers}; lock it with packing=false"
        )


def _second_row(model: PreTrainedModel, first: int) -> torch.Tensor:
    """Logits [tokens, vocabulary] of the second of two packed rows; the first row begins with the id `first`."""
    ids = torch.cat((torch.arange(first, first + _LENGTH), torch.arange(2 * _LENGTH, 3 * _LENGTH)))[None]
    places = torch.arange(_LENGTH).repeat(2)[None]
    inputs = {"input_ids": ids.to(model.device), "position_ids": places.to(model.device)}
    return model(**inputs, use_cache=False).logits[0, _LENGTH:].float()
