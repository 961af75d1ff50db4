"""Data and recipes name stages differently, and pairs serve two of them."""

from __future__ import annotations

import pytest

from finetui.core.knobs import knobs
from finetui.data.detection.choice import STAGES
from finetui.recipes.recipe import catalogue, load_recipe
from finetui.recipes.stages import read_for, serves

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("stage", "data"),
    [("sft", {"sft"}), ("pt", {"pt"}), ("kto", {"kto"}), ("dpo", {"dpo", "rm"}), ("reward", {"dpo", "rm"})],
)
def test_data_serves_the_stages_that_its_rows_can_teach(stage: str, data: set[str]) -> None:
    assert {name for name in (*STAGES, None) if serves(name, stage)} == data


def test_every_stage_of_a_recipe_can_be_asked_of_data() -> None:
    stages = {load_recipe(name).stage for name in catalogue()} | {stage for k in knobs().values() for stage in k.stages}
    assert {read_for(stage) for stage in stages} <= set(STAGES)
