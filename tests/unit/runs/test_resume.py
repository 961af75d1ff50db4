"""What may change when a run goes on, and which of its steps count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetui.core import events
from finetui.core.errors import FinetuiError
from finetui.runs.resume import allowed_changes, changeable

pytestmark = pytest.mark.unit

TRAINING = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "rows_per_step": 16,
    "learning_rate": 1e-4,
    "gradient_checkpointing": False,
    "save_steps": 10,
    "nproc_per_node": 1,
    "load_best_model_at_end": False,
}


def lock(**changes: object) -> dict:
    """The part of a lock that matters here."""
    values = TRAINING | changes
    training = {name: {"value": value, "reason": ""} for name, value in values.items()}
    return {"training": training, "world_size": 1, "rows_per_step": 16}


def test_a_smaller_micro_batch_brings_the_accumulation_that_keeps_the_rows_of_a_step() -> None:
    changed = allowed_changes("", lock(), {"per_device_train_batch_size": 3})
    assert changed == {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 6}


def test_changes_of_earlier_launches_stay_until_they_are_taken_back() -> None:
    first = allowed_changes("", lock(), {"gradient_checkpointing": True})
    second = allowed_changes(json.dumps(first), lock(), {"save_steps": 5})
    assert second == {"gradient_checkpointing": True, "save_steps": 5}
    assert allowed_changes(json.dumps(second), lock(), {"gradient_checkpointing": False}) == {"save_steps": 5}


def test_every_setting_that_would_change_the_result_is_named() -> None:
    with pytest.raises(FinetuiError) as refused:
        allowed_changes("", lock(), {"learning_rate": 1.0, "rows_per_step": 8, "save_steps": 5})
    assert [problem.facts["knob"] for problem in refused.value.problems] == ["learning_rate", "rows_per_step"]
    assert refused.value.exit_code == 2


def test_settings_with_too_little_room_for_a_step_are_refused() -> None:
    with pytest.raises(FinetuiError) as refused:
        allowed_changes("", lock(), {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 7})
    assert refused.value.problems[0].facts == {"rows": 16, "room": 14, "steps": 8}


def test_what_decides_the_best_checkpoint_is_fixed_where_that_is_the_result() -> None:
    assert "save_steps" in changeable(lock())
    assert "save_steps" not in changeable(lock(load_best_model_at_end=True))
    assert "nproc_per_node" not in changeable(lock())


def test_steps_after_a_checkpoint_count_as_they_were_taken_last(tmp_path: Path) -> None:
    started = {"world_size": 1, "python": "3", "packages": {}, "device": "cpu", "steps": 4, "rows": 8}
    facts = {"learning_rate": 0.1, "grad_norm": 1.0, "trained_tokens": 1, "tokens": 1, "tokens_per_second": 1.0}
    facts |= {"batch_digest": "0", "epoch": 1.0, "memory_bytes": 1}
    path = tmp_path / "events.jsonl"

    def tell(event: str, step: int | None = None, **more: object) -> None:
        with path.open("a") as stream:
            stream.write(json.dumps({"v": 1, "event": event, "time": 1.0, "step": step, **more}) + "\n")

    tell("started", **started)
    for step in (1, 2, 3):
        tell("step", step, loss=float(step), **facts)
    tell("started", **started, resumed_from=1)
    tell("step", 2, loss=20.0, **facts)
    assert [(step["step"], step["loss"]) for step in events.steps(path)] == [(1, 1.0), (2, 20.0)]
    tell("started", **started, resumed_from=0)
    assert events.steps(path) == []
