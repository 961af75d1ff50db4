"""Prompts, tokens, rated steps and segments become their records; tables and what is no training data become none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.core.errors import FinetuiError
from finetui.data import Reading, convert, inspect
from tests.unit.data.write import put, records

pytestmark = pytest.mark.unit

ASKED = {"prompt": [{"role": "user", "content": "a"}]}
SYSTEM = {"role": "system", "content": "s"}
STEPS = {"prompt": "a", "completions": ["b", " c"], "labels": [True, False]}
IDS = {"input_ids": [1, 5, 7], "labels": [-100, 5, 7]}
PIECES = [{"label": False, "text": "Q: a\n"}, {"label": True, "text": "A: b</s>"}]

KINDS = {
    "prompts: a text": ({"prompt": "a"}, ASKED),
    "prompts: messages": ({"prompt": [{"role": "user", "content": "a"}]}, ASKED),
    "prompts: messages of users alone": ({"messages": [{"role": "user", "content": "a"}]}, ASKED),
    "prompts: conversations of users alone": ({"conversations": [{"from": "human", "value": "a"}]}, ASKED),
    "prompts: an instruction without an output": ({"instruction": "a", "input": ""}, ASKED),
    "prompts: a question": ({"question": "a"}, ASKED),
    "prompts: a system prompt": ({"system": "s", "prompt": "a"}, {"prompt": [SYSTEM, *ASKED["prompt"]]}),
    "prompts: a reward and more": (
        {"prompt": "a", "ability": "math", "reward_model": {"ground_truth": "18"}, "extra": []},
        {**ASKED, "meta": {"ability": "math", "reward_model": {"ground_truth": "18"}}},
    ),
    "prompts: a reference answer": ({"prompt": "a", "answer": "18"}, {**ASKED, "meta": {"answer": "18"}}),
    "tokens": (IDS, IDS),
    "tokens: a mask of booleans": (
        {**IDS, "attention_mask": [True, True, False]},
        {**IDS, "attention_mask": [1, 1, 0]},
    ),
    "tokens: more columns": ({**IDS, "length": 3}, {**IDS, "meta": {"length": 3}}),
    "stepwise": (STEPS, STEPS),
    "stepwise: more columns": ({**STEPS, "id": 4}, {**STEPS, "meta": {"id": 4}}),
    "segments": ({"segments": PIECES}, {"text": "Q: a\nA: b</s>", "segments": PIECES}),
    "segments: more columns": (
        {"segments": PIECES, "id": 4},
        {"text": "Q: a\nA: b</s>", "segments": PIECES, "meta": {"id": 4}},
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_row_becomes_its_record_and_that_itself(name: str, tmp_path: Path) -> None:
    row, expected = KINDS[name]
    for given in (row, expected):
        conversion = convert([put(tmp_path / "x", [given])], tmp_path / "out")
        assert conversion.inspection.format == name.partition(":")[0]
        assert records(tmp_path / "out") == [expected]


def test_a_bare_list_of_questions_is_a_prompt(tmp_path: Path) -> None:
    rows = [[{"role": "user", "content": str(number)}] for number in range(3)]
    conversion = convert([put(tmp_path / "x", rows)], tmp_path / "out")
    assert (conversion.inspection.format, conversion.inspection.stage) == ("prompts", None)
    assert records(tmp_path / "out") == [{"prompt": row} for row in rows]


SET_ASIDE = [
    (ASKED, {"prompt": None}, "null-content"),
    (ASKED, {"prompt": " "}, "empty-user"),
    (ASKED, {"prompt": []}, "null-content"),
    (ASKED, {"prompt": 3}, "wrong-type"),
    (ASKED, {"other": "a"}, "missing-key"),
    (ASKED, {"prompt": "a", "image": "x.png"}, "multimodal"),
    (
        {"messages": ASKED["prompt"]},
        {"messages": [*ASKED["prompt"], {"role": "assistant", "content": "b"}]},
        "missing-key",
    ),
    (IDS, {"input_ids": [1, 2], "labels": [1]}, "wrong-type"),
    (IDS, {"input_ids": [1, -2], "labels": [1, 2]}, "wrong-type"),
    (IDS, {"input_ids": [1, 2.0], "labels": [1, 2]}, "wrong-type"),
    (IDS, {"input_ids": [1, True], "labels": [1, 2]}, "wrong-type"),
    (IDS, {"input_ids": [1, 2], "labels": [1, -101]}, "wrong-type"),
    (IDS, {"input_ids": [1, 2], "labels": [1, 2], "attention_mask": [1, 2]}, "wrong-type"),
    (IDS, {"input_ids": [1, 2], "labels": [1, 2], "attention_mask": [1, "1"]}, "wrong-type"),
    (IDS, {"input_ids": [], "labels": []}, "null-content"),
    (IDS, {"input_ids": [1]}, "missing-key"),
    (STEPS, {**STEPS, "labels": [True]}, "wrong-type"),
    (STEPS, {**STEPS, "labels": [True, "no"]}, "wrong-type"),
    (STEPS, {**STEPS, "completions": ["b", ""]}, "empty-assistant"),
    (STEPS, {**STEPS, "completions": ["b", None]}, "null-content"),
    (STEPS, {**STEPS, "completions": [], "labels": []}, "no-assistant"),
    (STEPS, {**STEPS, "prompt": " "}, "empty-user"),
    (STEPS, {"prompt": "a", "completions": ["b"]}, "missing-key"),
    ({"segments": PIECES}, {"segments": [{"label": 1, "text": "a"}]}, "wrong-type"),
    ({"segments": PIECES}, {"segments": [{"label": True, "text": None}]}, "null-content"),
    ({"segments": PIECES}, {"segments": [{"text": "a"}]}, "missing-key"),
    ({"segments": PIECES}, {"segments": [{"label": True, "text": " "}]}, "no-assistant"),
    ({"segments": PIECES}, {"segments": None}, "null-content"),
]


@pytest.mark.parametrize(("usual", "row", "code"), SET_ASIDE)
def test_a_row_that_cannot_be_used_is_set_aside(usual: Any, row: Any, code: str, tmp_path: Path) -> None:
    convert([put(tmp_path / "x", [usual, usual, row])], tmp_path / "out", accept_rejected=True)
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["code"] == code


@pytest.mark.parametrize(
    "row",
    [
        {"input_ids": [1, 2], "labels": [-100, -100]},
        {"segments": [{"label": False, "text": "a"}]},
    ],
)
def test_a_row_of_which_nothing_is_trained_is_kept_and_noted(row: Any, tmp_path: Path) -> None:
    inspection = inspect([put(tmp_path / "x", [row])])
    assert (inspection.input.usable, inspection.input.tally.counts) == (1, {"no-trained-token": 1})


def test_step_labels_of_0_and_1_are_repaired(tmp_path: Path) -> None:
    conversion = convert([put(tmp_path / "x", [{**STEPS, "labels": [1, 0]}])], tmp_path / "out")
    assert records(tmp_path / "out") == [STEPS]
    assert conversion.inspection.input.repaired == 1


NOTHING = [
    ({"problem": "a", "solution": "b"}, "table"),
    ({"text": "a film", "label": 1}, "table"),
    ({"toy_input": "a", "toy_output": "b"}, "table"),
    ({"title": "a", "body": "b"}, "table"),
    ({"prompt": "a", "response_0": "b", "response_1": "c"}, "table"),
    ({"translation": {"de": "a", "en": "b"}}, "table"),
    ({"turns": ["a"], "category": "writing"}, "not-training-data"),
    ({"system_prompt": "You are a nurse."}, "not-training-data"),
    ({"prompt": "a", "generation": "b"}, "not-training-data"),
    ({"accuracy": 0.5, "steps": 10}, "not-training-data"),
    ({"answer_id": "x", "choices": [{"index": 0, "turns": ["a"]}]}, "not-training-data"),
    ("a word", "not-training-data"),
    ({"one": {"file_name": "one.json"}, "two": {"file_name": "two.json"}}, "not-training-data"),
]


@pytest.mark.parametrize(("row", "format"), NOTHING)
def test_what_no_layout_fits_converts_to_nothing(row: Any, format: str, tmp_path: Path) -> None:
    rows = [row] if type(row) is dict and "one" in row else [row, row]
    conversion = convert([put(tmp_path / "x", json.dumps(rows).encode())], tmp_path / "out", accept_rejected=True)
    contract = conversion.to_json()
    assert (contract["format"], contract["stage"], contract["problems"]) == (format, None, [])
    assert contract["rows"] == {"total": len(rows), "usable": 0, "rejected": len(rows), "repaired": 0}
    assert conversion.exit_code == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


@pytest.mark.parametrize("format", ["table", "not-training-data", "nonsense"])
def test_only_what_converts_can_be_asked_for(format: str, tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as raised:
        inspect([put(tmp_path / "x", [ASKED])], Reading(format=format))
    assert raised.value.exit_code == 2
