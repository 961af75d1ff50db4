"""Ways out of a plan that does not fit: at most three, the nearest, each of which fits when it is planned."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.draft import Draft
from finetui.wizard import plan
from tests.unit.recipes.planning import LLAMA13B, QWEN1B8, QWEN7B, QWEN14B, planned, put, shaped

pytestmark = pytest.mark.unit

CASES = {
    "full-7b-on-24": (QWEN7B, "full-a100x4", ("--gpu", "rtx3090")),
    "full-1.8b-on-24": (QWEN1B8, "full-a100x4", ("--gpu", "rtx4090")),
    "lora-7b-on-24": (QWEN7B, "lora-3090", ("--gpu", "rtx3090")),
    "lora-14b-on-24": (QWEN14B, "lora-3090", ("--gpu", "rtx3090", "--set", "r=128")),
    "qlora-14b-on-16": (QWEN14B, "qlora-3090", ("--gpu", "t4")),
    "full-14b-on-4x40": (QWEN14B, "full-a100x4", ("--gpu", "a100-40g:4")),
    "journey-1-full": (QWEN14B, "journey-1-full", ("--gpu", "a100-80g:4")),
    "journey-1-lora": (QWEN14B, "journey-1-lora", ("--gpu", "a100-80g:4")),
    "journey-5-on-16": (LLAMA13B, "journey-5", ("--gpu", "t4", "--set", "max_length=4096")),
    "long-rows": (QWEN7B, "qlora-3090", ("--gpu", "rtx3090", "--set", "max_length=32768")),
    "stated-batch": (QWEN7B, "qlora-3090", ("--gpu", "rtx3090", "--set", "per_device_train_batch_size=16")),
    "stated-accumulation": (QWEN7B, "qlora-3090", ("--gpu", "rtx3090", "--set", "gradient_accumulation_steps=1")),
    "packed-and-kept": (QWEN7B, "qlora-3090", ("--gpu", "l4", "--set", "gradient_checkpointing=false")),
    "preferences": (QWEN14B, "dpo-lora", ("--gpu", "a100-40g", "--set", "per_device_train_batch_size=8")),
    "pretraining": (QWEN7B, "pretrain-lora", ("--gpu", "rtx3090")),
    "eight-bits": (QWEN14B, "lora-3090", ("--gpu", "a10", "--set", "load_in_8bit=true", "--set", "max_length=8192")),
}


def contract(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run([*words, "--json"])
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, read


@pytest.mark.parametrize("name", CASES)
def test_every_way_out_fits_when_its_own_command_is_planned(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, recipe, others = CASES[name]
    model = put(tmp_path / "model's folder", config)
    code, found = contract(["plan", "--model", str(model), "--recipe", recipe, *others], capsys)
    assert (code, found["fits"]) == (5, False)
    ways = found["ways_out"]
    assert 1 <= len(ways) <= 3
    for way in ways:
        program, *words = shlex.split(way["command"])
        assert program == "finetui"
        code, again = contract(words, capsys)
        assert (code, again["fits"]) == (0, True), way["command"]
        assert again["band"] == way["band"]
        assert again["band"][1] <= again["free_bytes"]
        if "--recipe" not in way["words"]:
            assert again["settings"]["rows_per_step"] == found["settings"]["rows_per_step"], way["command"]
    said = [set(zip(way["words"][::2], way["words"][1::2], strict=True)) for way in ways]
    assert not any(one <= other for one in said for other in said if one is not other)


def test_the_nearest_comes_first(tmp_path: Path) -> None:
    model = shaped(tmp_path)
    stated = planned(model, "qlora-3090", "per_device_train_batch_size=16", gpus="rtx3090")
    assert [said.code for said in stated.ways_out[0].said] == ["plan.way-memory"]
    assert "the result does not" in stated.ways_out[0].text()
    lora = planned(model, "lora-3090", gpus="rtx3090")
    assert [way.said[0].code for way in lora.ways_out] == [
        "plan.way-qlora",
        "plan.way-length-blind",
        "plan.way-gpu",
    ]
    assert lora.ways_out[2].words == ("--gpu", "rtx3090:2")  # one more of the same card, the model shared out


def test_a_change_of_recipe_keeps_the_rows_and_leaves_the_old_methods_settings(tmp_path: Path) -> None:
    model = put(tmp_path / "m", QWEN7B)
    draft = Draft(
        (), str(model), "full-a100x4", gpu="rtx3090", price=2.0, assignments=("master_weights=true", "max_length=1000")
    )
    adapter, hardware, *_ = plan(draft).ways_out
    taken = draft.taking(adapter)
    assert (taken.recipe, taken.assignments, taken.price) == ("lora-3090", ("max_length=1000",), 2.0)
    moved = draft.taking(hardware)
    assert (moved.gpu, moved.price) == ("b200", None)  # the price was that of the other card


def test_a_second_card_is_a_way_out_and_the_model_is_shared_out_over_both(tmp_path: Path) -> None:
    found = planned(shaped(tmp_path, QWEN14B), "lora-3090", gpus="rtx3090")
    assert [way.settled.settings["parallelism"] for way in found.ways_out] == ["single", "fsdp2", "fsdp2"]


def test_where_nothing_near_fits_no_way_is_made_up(tmp_path: Path) -> None:
    found = planned(shaped(tmp_path, hidden_size=65536, num_hidden_layers=400), "lora-3090", gpus="rtx3090")
    assert (found.fits, found.ways_out) == (False, ())
