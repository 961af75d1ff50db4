"""Chosen rows in a bundle: each part in its file, how they were chosen in the lock, nothing of it for the trainer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetui.bundles.rows import read_rows
from finetui.bundles.verify import verify
from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.core.knobs import locked_under
from finetui.data.choose.choosing import Choosing
from finetui.data.conversion import convert
from finetui.data.reading import Reading
from finetui.wizard import Draft, lock
from tests.unit.data.write import put

pytestmark = pytest.mark.unit


@pytest.fixture
def draft(tmp_path: Path, tiny_model: Path) -> Draft:
    """Forty short rows for the tiny model."""
    data = put(tmp_path / "rows.jsonl", [{"instruction": f"How much is {n}?", "output": f"{n}."} for n in range(40)])
    return Draft((str(data),), str(tiny_model), "cpu-demo", tmp_path / "mine.bundle")


def locked(draft: Draft) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((lock(draft).path / "lock.json").read_text())
    return read


def questions(bundle: Path, part: str) -> list[str]:
    return [json.loads(row.record)["messages"][0]["content"] for row in read_rows(bundle / f"data/{part}.parquet")]


def codes(draft: Draft) -> list[str]:
    with pytest.raises(FinetuiError) as error:
        lock(draft)
    return [problem.code for problem in error.value.problems]


def test_where_nothing_is_chosen_nothing_is_said_of_it_and_the_bundle_stays_the_same(draft: Draft) -> None:
    first = lock(draft)
    read = json.loads((first.path / "lock.json").read_text())
    assert set(read["data"]) == {"sources", "train", "eval", "set_aside", "order"}
    assert set(read["data"]["sources"][0]) == {"name", "sha256", "bytes", "format", "mapping", "rows"}
    assert not set(read["training"]) & set(locked_under("data"))
    assert read["revision"] == 0
    again = lock(replace(draft, out=draft.out.with_name("again") / draft.out.name))
    explicit = ("max_samples=0", "val_size=0", "dedupe=none", "max_tokens=0")
    asked = lock(replace(draft, assignments=explicit, out=draft.out.with_name("asked") / draft.out.name))
    assert first.id == again.id == asked.id
    assert (first.path / "data/train.parquet").read_bytes() == (again.path / "data/train.parquet").read_bytes()


def test_validation_becomes_the_evaluation_part_and_test_is_kept_beside_it(draft: Draft) -> None:
    read = locked(replace(draft, assignments=("val_size=0.2", "test_size=4", "max_samples=30")))
    parts = {part: questions(draft.out, part) for part in ("train", "eval", "test")}
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 20, "eval": 6, "test": 4}
    assert len({question for rows in parts.values() for question in rows}) == 30
    assert {part: read["data"][part]["rows"] for part in parts} == {"train": 20, "eval": 6, "test": 4}
    assert read["data"]["chosen"] == {
        "asked": {
            name: {"value": value, "reason": "as --set says"}
            for name, value in (("max_samples", 30), ("val_size", 0.2), ("test_size", 4.0))
        },
        "usable": 40,
        "kept": {"train": 20, "validation": 6, "test": 4},
        "dropped": {"not-drawn": 10},
        "repeated": 0,
        "ungrouped": 0,
        "uncounted": 0,
        "seed": 42,
    }
    assert read["revision"] == 1
    assert not set(read["training"]) & set(locked_under("data"))
    assert verify(draft.out)["ok"]


def test_the_seed_of_the_training_draws_the_rows_too(draft: Draft) -> None:
    lock(replace(draft, assignments=("val_size=10",)))
    lock(replace(draft, assignments=("val_size=10", "seed=7"), out=draft.out.with_name("other")))
    assert questions(draft.out, "eval") != questions(draft.out.with_name("other"), "eval")


def test_a_recipe_may_choose_rows(draft: Draft, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[recipe]\nextends = "cpu-demo"\n[data]\nval_size = 5\nmax_samples = 25\n')
    assert locked(replace(draft, recipe=str(recipe)))["data"]["train"]["rows"] == 20


def test_datasets_of_different_layouts_are_mixed_by_weight(draft: Draft, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]
    other = put(tmp_path / "other.jsonl", [{"conversations": turns, "id": number} for number in range(3)])
    read = locked(replace(draft, data=(f"{draft.data[0]}@0.5", f"{other}@2")))
    assert read["data"]["train"]["rows"] == 26
    assert [source.get("weight") for source in read["data"]["sources"]] == [0.5, 2.0]
    assert read["data"]["chosen"]["dropped"] == {"weight": 20}


def test_data_for_evaluation_alone_is_evaluated_and_kept_out_of_training(draft: Draft, tmp_path: Path) -> None:
    held = [{"query": f"How much is {number}?", "response": f"{number}."} for number in (1, 2, 100)]
    done = lock(replace(draft, evaluation=(str(put(tmp_path / "held.jsonl", held)),)))
    assert questions(done.path, "eval") == ["How much is 1?", "How much is 2?", "How much is 100?"]
    assert len(questions(done.path, "train")) == 38
    [warning] = done.warnings
    assert (warning.code, warning.facts["count"]) == ("choose.leaks", 2)
    sources = json.loads((done.path / "lock.json").read_text())["data"]["sources"]
    assert [source.get("part") for source in sources] == [None, "validation"]


def test_a_converted_folder_brings_its_parts(draft: Draft, tmp_path: Path) -> None:
    convert(draft.data, tmp_path / "out", choosing=Choosing(val_size=5, test_size=3))
    read = locked(replace(draft, data=(str(tmp_path / "out"),)))
    assert {part: read["data"][part]["rows"] for part in ("train", "eval", "test")} == {
        "train": 32,
        "eval": 5,
        "test": 3,
    }
    assert [source["name"] for source in read["data"]["sources"]] == ["data.jsonl", "validation.jsonl", "test.jsonl"]


def test_rows_too_long_are_left_out_before_any_is_drawn(draft: Draft) -> None:
    longer = locked(draft)["data"]["train"]["lengths"]["max"]
    read = locked(
        replace(draft, assignments=(f"max_tokens={longer - 1}", "max_samples=10"), out=draft.out.with_name("b"))
    )
    assert read["data"]["chosen"]["dropped"]["too-long"] == 30
    assert read["data"]["train"]["lengths"]["max"] < longer
    assert read["training"]["max_length"]["value"] == read["data"]["train"]["lengths"]["max"]


def test_placeholders_are_filled_in_what_is_trained(draft: Draft, tmp_path: Path) -> None:
    data = put(tmp_path / "named.jsonl", [{"instruction": f"Who, {n}?", "output": "I am {{name}}."} for n in range(9)])
    read = locked(replace(draft, data=(str(data),), reading=Reading(fill={"name": "Milo"})))
    assert all("I am Milo." in row.record for row in read_rows(draft.out / "data/train.parquet"))
    assert read["data"]["chosen"]["fill"] == {"name": {"text": "Milo", "rows": 9}}


def test_what_cannot_be_had_is_refused_before_anything_is_written(draft: Draft) -> None:
    assert codes(replace(draft, assignments=("val_size=40",))) == ["choose.split-too-large"]
    assert codes(replace(draft, assignments=("val_size=1.5", "min_tokens=9", "max_tokens=3"))) == [
        "choose.size-not-whole",
        "choose.tokens-crossed",
    ]
    assert not draft.out.exists()


def test_data_of_different_stages_are_refused(draft: Draft, tmp_path: Path) -> None:
    text = put(tmp_path / "text.jsonl", [{"text": f"Once upon a time, {number}."} for number in range(9)])
    assert codes(replace(draft, data=(*draft.data, str(text)))) == ["choose.mixed-stages"]


def test_the_command_takes_the_same_flags_as_convert(
    draft: Draft, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lock", "--model", draft.model, "--data", *draft.data, "--recipe", draft.recipe, "--out", str(draft.out)]
    assert run([*words, "--val-size", "0.1", "--max-samples", "20", "--fill", "name=Milo", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [warning["code"] for warning in told["warnings"]] == ["choose.unfilled"]
    assert (len(questions(draft.out, "train")), len(questions(draft.out, "eval"))) == (18, 2)
