"""What a run that has run out of memory can be resumed with: less memory, the same rows in every step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from finetui.runs.state import RunState

_MICRO, _EVALUATED = "per_device_train_batch_size", "per_device_eval_batch_size"
_IN_EVALUATION = "evaluation batch"
"""What the trainer says of where it was tried out."""


def lighter_setting(lock: Mapping[str, Any], state: RunState) -> str | None:
    """The setting to turn next, as `--set` takes it, or None where all are turned.

    The batches first, which cost no computation; recomputing last, which costs a third of the time.
    """
    settings = {name: knob["value"] for name, knob in (lock.get("training") or {}).items()}
    settings |= json.loads(state.changes or "{}")
    batches = [_EVALUATED, _MICRO] if _IN_EVALUATION in (state.detail or "") else [_MICRO, _EVALUATED]
    for name in batches:
        if settings.get(name, 1) > 1:
            return f"{name}=1"
    if settings.get("attn_implementation") == "eager":
        return "attn_implementation=sdpa"
    return "gradient_checkpointing=true" if settings.get("gradient_checkpointing") is False else None
