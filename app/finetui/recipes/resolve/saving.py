"""Checkpoints: how often, how many, and the bytes that a run leaves on the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finetui.core.figures import duration, gib, round_number
from finetui.data.profile.lengths import total
from finetui.hardware.memory.state import state
from finetui.recipes.resolve.layout import Fitted, Frame
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.settings import Choice

_EVERY_SECONDS = 1800
"""What a crash may cost."""
_SHORT_SECONDS = 600
"""A run this short is begun again."""
_KEPT = 2
_TOKEN_BYTES = 12
"""Of a token in a bundle: text, id and label, packed; seen on chats in Chinese and English."""


@dataclass(frozen=True)
class Saving:
    """What is written, in bytes, and the knobs that decide it."""

    choices: Mapping[str, Choice]
    steps: int | None
    """Optimizer steps of the whole run; None without data."""
    checkpoint_bytes: int
    """One checkpoint: what is trained, and the optimizer's state."""
    checkpoints: int
    """How many lie on the disk at once: those kept, and the one being written."""
    output_bytes: int
    """The adapter, or the model."""
    merged_bytes: int
    """The model with the adapter merged into it; 0 where there is none."""
    data_bytes: int
    """The bundle's rows."""

    @property
    def run_bytes(self) -> int:
        """What the run itself needs: checkpoints, result and data."""
        return self.checkpoints * self.checkpoint_bytes + self.output_bytes + self.data_bytes

    @property
    def all_bytes(self) -> int:
        """With the merged model."""
        return self.run_bytes + self.merged_bytes


def saving(request: Request, choices: Mapping[str, Choice], frame: Frame, fitted: Fitted) -> Saving:
    """Settle `save_steps` and `save_total_limit` where they are open."""
    held = state(frame.shape, frame.job(fitted.layout))
    whole = frame.world if fitted.layout.parallelism == "fsdp2" else 1
    checkpoint = int(frame.trained_bytes + held.optimizer * whole)
    output = int(frame.trained_bytes)
    data = total(request.tokens.train.tokens) * _TOKEN_BYTES if request.tokens else 0
    steps = _steps(request, choices)
    made: dict[str, Choice] = {}
    if "save_steps" not in choices:
        made["save_steps"] = _interval(choices, steps, fitted.seconds)
    every = _whole({**choices, **made}["save_steps"])
    merged = 0 if request.method == "full" else frame.shape.parameters * frame.base.width
    if "save_total_limit" not in choices:
        room = None if request.free_disk_bytes is None else request.free_disk_bytes - output - merged - data
        made["save_total_limit"] = _kept(room, checkpoint, every)
    kept = _whole({**choices, **made}["save_total_limit"])
    count = 0
    if every:
        written = kept + 1 if steps is None else steps // every
        count = min(kept + 1, max(written, 0))
    return Saving(made, steps, checkpoint, count, output, merged, data)


def _steps(request: Request, choices: Mapping[str, Choice]) -> int | None:
    most = _whole(choices["max_steps"])
    if most > 0:
        return most
    if request.tokens is None:
        return None
    epochs = choices["num_train_epochs"].value
    assert isinstance(epochs, (int, float))
    rows = request.tokens.left(_whole(choices["max_length"]), str(choices["overlong"].value))
    return max(1, math.ceil(epochs * math.ceil(rows / _whole(choices["rows_per_step"]))))


def _interval(choices: Mapping[str, Choice], steps: int | None, seconds: float) -> Choice:
    evaluated = _whole(choices["eval_steps"])
    if choices["load_best_model_at_end"].value and evaluated:
        return Choice(evaluated, "reasons.save-best", {"steps": evaluated})
    if steps is not None and steps * seconds < _SHORT_SECONDS:
        return Choice(0, "reasons.save-short", {"run": duration(steps * seconds)})
    every = round_number(_EVERY_SECONDS / seconds)
    if steps is not None:
        every = min(every, max(1, steps // 2))
    return Choice(every, "reasons.save-every", {"steps": every, "time": duration(every * seconds)})


def _kept(room: int | None, checkpoint: int, every: int) -> Choice:
    facts = {"kept": _KEPT, "size": gib(checkpoint)}
    if not every:
        return Choice(_KEPT, "reasons.kept-none", facts)
    if room is None or room >= checkpoint * (_KEPT + 1):
        return Choice(_KEPT, "reasons.kept", facts)
    return Choice(1, "reasons.kept-one", {**facts, "kept": 1, "room": gib(max(0, room))})


def _whole(choice: Choice) -> int:
    assert isinstance(choice.value, int)
    return choice.value
