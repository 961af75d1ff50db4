"""Drafts: what is chosen becomes a bundle, or every error of it at once."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetui.bundles.verify import verify
from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.data import Reading
from finetui.wizard import Draft, lock, plan
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.unit


@pytest.fixture
def draft(tmp_path: Path, tiny_model: Path) -> Draft:
    """Ten ShareGPT rows for the tiny model."""
    data = tmp_path / "chats.jsonl"
    turns = ({"from": "human", "value": "How many?"}, {"from": "gpt", "value": "One more."})
    data.write_text("".join(json.dumps({"conversations": [*turns], "id": i}) + "\n" for i in range(10)))
    return Draft((str(data),), str(tiny_model), "cpu-demo", tmp_path / "mine.bundle")


def locked(draft: Draft) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((lock(draft).path / "lock.json").read_text())
    return read


def codes(draft: Draft) -> list[str]:
    with pytest.raises(FinetuiError) as error:
        lock(draft)
    return [problem.code for problem in error.value.problems]


def test_every_setting_is_locked_with_its_reason(draft: Draft) -> None:
    read = locked(replace(draft, assignments=("learning_rate=1e-3", "num_train_epochs=2")))
    training = read["training"]
    assert training["learning_rate"] == {"value": 1e-3, "reason": "as --set says"}
    assert training["r"] == {"value": 16, "reason": "as recipe cpu-demo says"}
    assert training["weight_decay"] == {"value": 0.0, "reason": "the default"}
    longest = read["data"]["train"]["lengths"]["max"]
    assert training["max_length"] == {
        "value": longest,
        "reason": f"the longest row of the data has {longest} tokens",
    }
    assert (read["rows_per_step"], read["steps"], read["world_size"]) == (8, 4, 1)


def test_the_source_is_kept_by_content_and_name_alone(draft: Draft) -> None:
    (source,) = locked(draft)["data"]["sources"]
    assert source["name"] == "chats.jsonl"
    assert source["format"] == "sharegpt"
    assert source["rows"] == {"total": 10, "usable": 10, "rejected": 0, "repaired": 0}


def test_a_length_below_the_rows_drops_them_with_a_warning_or_cuts_them(draft: Draft) -> None:
    assert codes(replace(draft, assignments=("max_length=16",))) == ["rules.no-rows"]
    cut = lock(replace(draft, assignments=("max_length=34", "overlong=cut")))
    assert [problem.code for problem in cut.warnings] == ["bundles.rows-cut"]


def test_a_layer_that_the_model_does_not_have_is_told_before_anything_trains(draft: Draft) -> None:
    assert codes(replace(draft, assignments=("target_modules=q_proj,v_porj",))) == ["recipes.no-layer"]
    for wrong in ("nope", "q_proj(", ".*_porj", "embed_tokens", "q_proj,embed_tokens", ".*embed_tokens"):
        assert codes(replace(draft, assignments=(f"target_modules={wrong}",))) == ["recipes.no-layer"]
    for text, value in (
        ("q_proj,v_proj", ["q_proj", "v_proj"]),
        ("q_proj", ["q_proj"]),
        (".*[qv]_proj", ".*[qv]_proj"),
    ):
        read = locked(replace(draft, assignments=(f"target_modules={text}",), out=draft.out.with_name(str(len(text)))))
        assert read["training"]["target_modules"]["value"] == value


def test_a_rate_far_too_low_is_warned_about(draft: Draft) -> None:
    warnings = lock(replace(draft, assignments=("learning_rate=1e-6",))).warnings
    assert [problem.code for problem in warnings] == ["rules.low-rate"]


def test_all_that_is_wrong_is_told_at_once(draft: Draft, tmp_path: Path) -> None:
    draft.out.mkdir()
    wrong = replace(
        draft,
        data=(str(tmp_path / "nowhere.json"),),
        model=str(tmp_path / "nowhere"),
        recipe="lora-3091",
        assignments=("r=0", "rr=1"),
        python=str(tmp_path / "python"),
    )
    assert codes(wrong) == [
        "recipes.not-found-near",
        "knobs.bad-value",
        "knobs.unknown-near",
        "data.no-such-path",
        "models.not-found",
        "jobs.no-interpreter",
        "bundles.exists",
    ]


def test_a_base_model_without_a_template_gets_plain_or_the_one_asked_for(draft: Draft, tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base", template=None)
    plain = locked(replace(draft, model=str(base)))
    assert (plain["template"]["source"], plain["template"]["name"]) == ("builtin", "plain")
    asked = locked(replace(draft, model=str(base), template="vicuna", out=tmp_path / "v.bundle"))
    assert asked["template"]["name"] == "vicuna"
    assert codes(replace(draft, model=str(base), template="vicunia", out=tmp_path / "w.bundle")) == [
        "encode.unknown-template"
    ]


def test_the_command_that_follows_names_a_model_that_only_its_path_finds(
    draft: Draft, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", draft.model, "--data", *draft.data, "--recipe", draft.recipe, "--out", str(draft.out)]
    assert run(["lock", *words, "--python", sys.executable]) == 0
    again = f"finetui run {draft.out} --model {draft.model} --python {sys.executable}"
    assert f"next: {again}\n" in capsys.readouterr().err


def test_names_that_are_no_text_are_locked_harmlessly(draft: Draft, tmp_path: Path) -> None:
    hostile = os.fsdecode(b"x\xff\x1b]52;c;aGk=\x07\xc2\x9b2J\xe2\x80\xae")
    model = shutil.copytree(draft.model, tmp_path / hostile / "model\u202e")
    data = shutil.copy(draft.data[0], tmp_path / hostile / f"{hostile}.jsonl")
    out = tmp_path / hostile / "mine.bundle"
    text = (lock(replace(draft, model=str(model), data=(str(data),), out=out)).path / "lock.json").read_text("utf-8")
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text) is None
    read = json.loads(text)
    assert (read["model"]["name"], read["data"]["sources"][0]["name"]) == ("model�", "x��.jsonl")
    assert verify(out)["ok"]


def test_data_for_another_stage_than_the_recipe_trains_is_refused(draft: Draft, tmp_path: Path) -> None:
    text = tmp_path / "books.jsonl"
    text.write_text("\n".join(json.dumps({"text": f"The {n}th chapter tells of the sea."}) for n in range(9)))
    assert codes(replace(draft, data=(str(text),))) == ["recipes.other-stage"]
    pairs = tmp_path / "pairs.jsonl"
    row = {"prompt": "Where is it?", "chosen": "In Oslo.", "rejected": "Who knows."}
    pairs.write_text("\n".join(json.dumps({**row, "prompt": f"Where is {n}?"}) for n in range(9)))
    assert codes(replace(draft, data=(str(pairs),))) == ["recipes.other-stage"]
    assert locked(replace(draft, data=(str(pairs),), reading=Reading(stage="sft")))["data"]["train"]["rows"] == 9


def test_pairs_serve_preference_and_reward_alike(draft: Draft, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    row = {"chosen": "In Oslo.", "rejected": "Who knows."}
    pairs.write_text("\n".join(json.dumps({**row, "prompt": f"Where is {n}?"}) for n in range(9)))
    for recipe in ("dpo-lora", "reward-lora"):
        for stage in (None, "rm"):
            asked = replace(draft, data=(str(pairs),), recipe=recipe, assignments=(), reading=Reading(stage=stage))
            assert plan(asked).settled
