"""How long a run takes, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from finetui.recipes.resolve.settle import Settled

START_SECONDS = 30.0
"""Importing the libraries and starting the processes."""
READ_RATE = 1.0e9
"""Bytes a second of loading weights: a plain NVMe disk, or a network disk that is read for the second time."""
WRITE_RATE = 0.5e9
"""Bytes a second of saving, synced."""


@dataclass(frozen=True)
class Time:
    """Seconds of a whole run, by what they go into."""

    training: float
    evaluating: float
    saving: float
    loading: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.evaluating + self.saving + self.loading

    def to_json(self) -> dict[str, Any]:
        """The parts, rounded."""
        return {name: round(seconds, 1) for name, seconds in vars(self).items()}


@dataclass(frozen=True)
class Cost:
    """What the GPUs of a run cost, in the currency of the price."""

    price: float
    """Of one GPU for an hour."""
    gpus: int
    amount: float

    def to_json(self) -> dict[str, Any]:
        """The entry `cost` of the contract of `plan`."""
        return {"per_gpu_hour": self.price, "gpus": self.gpus, "amount": round(self.amount, 2)}


def time_of(settled: Settled) -> Time | None:
    """The time of the whole run; None where it is not known how many rows there are."""
    saving, tokens, settings = settled.saving, settled.request.tokens, settled.settings
    if saving.steps is None:
        return None
    evaluating = 0.0
    if tokens is not None and tokens.held_rows:
        every = settings.number("eval_steps")
        times = max(1, saving.steps // every) if every else 1
        mean = sum(tokens.held.tokens.elements()) / max(1, tokens.held.rows)
        length = min(mean, settings.number("max_length"))
        once = settled.frame.evaluation_seconds(
            settled.fitted.layout, tokens.held_rows, length, max(1, settled.eval_batch)
        )
        evaluating = times * once
    every = settings.number("save_steps")
    written = (saving.steps // every if every else 0) * saving.checkpoint_bytes + saving.output_bytes
    stored = settled.request.model.weight_bytes or settled.frame.shape.parameters * 2
    return Time(
        training=saving.steps * settled.fitted.seconds,
        evaluating=evaluating,
        saving=written / WRITE_RATE,
        loading=START_SECONDS + stored / READ_RATE,
    )


def cost_of(settled: Settled, time: Time | None) -> Cost | None:
    """The money, where a price and the time are known; GPUs are paid by the hour, each of them."""
    price = settled.request.price
    if price is None or time is None:
        return None
    gpus = max(1, len(settled.request.machine.gpus))
    return Cost(price, gpus, price * gpus * math.ceil(time.total) / 3600)
