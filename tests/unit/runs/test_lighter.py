"""What is told to whom memory has run out: one setting after another, until none is left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from finetui.runs.lighter import lighter_setting
from finetui.runs.state import RunState

pytestmark = pytest.mark.unit

HEAVY = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 4,
    "attn_implementation": "eager",
    "gradient_checkpointing": False,
}
STATE = RunState("run", "bundle", "", "", "", "", 1, 10, 0.0)


def test_every_setting_is_told_once_and_the_dear_one_last() -> None:
    lock = {"training": {name: {"value": value} for name, value in HEAVY.items()}}
    told: dict[str, object] = {}
    order = []
    while setting := lighter_setting(lock, replace(STATE, changes=json.dumps(told))):
        name, _, value = setting.partition("=")
        told[name] = {"1": 1, "true": True}.get(value, value)
        order.append(name)
    assert order == list(HEAVY)


def test_an_evaluation_that_does_not_fit_is_made_smaller_first() -> None:
    lock = {"training": {name: {"value": value} for name, value in HEAVY.items()}}
    state = replace(STATE, detail="the largest evaluation batch (4096 tokens) does not fit")
    assert lighter_setting(lock, state) == "per_device_eval_batch_size=1"
    assert lighter_setting({}, STATE) is None
