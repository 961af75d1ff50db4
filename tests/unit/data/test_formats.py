"""Each layout becomes the canonical record, verbatim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.data import convert, inspect
from tests.unit.data.write import ALPACA, MESSAGES, SHAREGPT, chat, put, records

pytestmark = pytest.mark.unit

TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}, "required": []}}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1, "empty": []}}}


def converted(row: Any, tmp_path: Path, others: list[Any] | None = None) -> Any:
    convert([put(tmp_path / "x", [row, *(others or [])])], tmp_path / "out", accept_rejected=True)
    return records(tmp_path / "out")[0]


ROWS = {
    "alpaca with an input": ({"instruction": "a", "input": "b", "output": "c"}, chat("a\nb", "c")),
    "alpaca with the input alone": ({"instruction": "", "input": "b", "output": "c"}, chat("b", "c")),
    "alpaca with a null input": ({"instruction": "a", "input": None, "output": "c"}, chat("a", "c")),
    "alpaca keeps its spaces": ({"instruction": " a \n", "output": "\tc "}, chat(" a \n", "\tc ")),
    "alpaca with response": ({"instruction": "a", "response": "c"}, chat("a", "c")),
    "alpaca with a text column": ({"instruction": "a", "output": "c", "text": "Below is …"}, chat("a", "c")),
    "alpaca with a history": (
        {"instruction": "a", "input": "", "output": "c", "history": [["q", "r"], ["s", "t"]]},
        chat("q", "r", "s", "t", "a", "c"),
    ),
    "alpaca with a history of objects": (
        {"instruction": "a", "output": "c", "history": [{"user": "q", "assistant": "r"}]},
        chat("q", "r", "a", "c"),
    ),
    "alpaca with a system prompt": (
        {"instruction": "a", "output": "c", "system": "s"},
        {"messages": [{"role": "system", "content": "s"}, *chat("a", "c")["messages"]]},
    ),
    "alpaca with more columns": (
        {"id": 7, "instruction": "a", "output": "c", "lang": "", "score": 0.5},
        {**chat("a", "c"), "meta": {"id": 7, "score": 0.5}},
    ),
    "sharegpt": (SHAREGPT[0], chat("hi", "hello")),
    "sharegpt of Qwen": (
        {"conversations": [{"from": "user", "value": "你好"}, {"from": "assistant", "value": "你好！"}]},
        chat("你好", "你好！"),
    ),
    "sharegpt in capitals": (
        {"conversations": [{"from": "Human", "value": "a"}, {"from": "GPT", "value": "b"}]},
        chat("a", "b"),
    ),
    "sharegpt with a system column": (
        {"conversations": SHAREGPT[0]["conversations"], "system": "s"},
        {"messages": [{"role": "system", "content": "s"}, *chat("hi", "hello")["messages"]]},
    ),
    "sharegpt with tools": (
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": json.dumps({"name": "f", "arguments": {"x": 1, "empty": []}})},
                {"from": "observation", "value": '{"y": 2}'},
                {"from": "gpt", "value": "b"},
            ],
            "tools": json.dumps([TOOL]),
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "content": '{"y": 2}'},
                {"role": "assistant", "content": "b"},
            ],
            "tools": [{"type": "function", "function": TOOL}],
        },
    ),
    "messages": (MESSAGES[0], MESSAGES[0]),
    "messages under conversations": ({"conversations": MESSAGES[0]["messages"]}, MESSAGES[0]),
    "messages under dialogue": ({"dialogue": MESSAGES[0]["messages"]}, MESSAGES[0]),
    "messages in any case": (
        {"messages": [{"role": "User", "content": "a"}, {"role": "BOT", "content": "b"}]},
        chat("a", "b"),
    ),
    "messages with weights": (
        {
            "messages": [
                {"role": "user", "content": "a", "weight": 0},
                {"role": "assistant", "content": "b", "weight": 0},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d", "weight": 1},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "train": False},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ]
        },
    ),
    "messages with thinking": (
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "reasoning_content": "t"},
            ]
        },
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": "t"}]},
    ),
    "messages of text blocks": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "c"}]},
            ]
        },
        chat("a b", "c"),
    ),
    "messages with functions": (
        {"messages": MESSAGES[0]["messages"], "functions": [TOOL]},
        {**MESSAGES[0], "tools": [{"type": "function", "function": TOOL}]},
    ),
    "messages with html": (
        {"messages": [{"role": "user", "content": '<img src="x">'}, {"role": "assistant", "content": "b"}]},
        chat('<img src="x">', "b"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_its_record(name: str, tmp_path: Path) -> None:
    row, expected = ROWS[name]
    assert converted(row, tmp_path) == expected
    assert inspect([tmp_path / "x"]).format == name.split()[0]


def test_messages_that_say_nothing_are_read_again_as_they_are_written(tmp_path: Path) -> None:
    said = [
        {"role": "system", "content": ""},
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [CALL]},
    ]
    row = {"messages": [*said, {"role": "tool", "content": ""}, {"role": "assistant", "content": "b"}]}
    record = {"messages": [{"role": "system"}, *said[1:], {"role": "tool"}, {"role": "assistant", "content": "b"}]}
    assert converted(row, tmp_path) == record
    assert converted(record, tmp_path) == record


@pytest.mark.parametrize(
    ("arguments", "repaired"),
    [
        ({"x": 1, "empty": []}, 0),
        ('{"x": 1, "empty": []}', 0),
        (json.dumps(json.dumps({"x": 1, "empty": []})), 1),
    ],
)
def test_arguments_become_an_object(arguments: Any, repaired: int, tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert converted(row, tmp_path)["messages"][1] == {"role": "assistant", "tool_calls": [{**CALL, "id": "1"}]}
    assert inspect([tmp_path / "x"]).input.repaired == repaired


def test_integers_beyond_64_bits_stay_what_they_are(tmp_path: Path) -> None:
    row = {**MESSAGES[0], "big": 2**80 + 1, "float": 1.5}
    assert converted(row, tmp_path)["meta"] == {"big": 2**80 + 1, "float": 1.5}


def test_nan_becomes_null_and_is_counted(tmp_path: Path) -> None:
    put(tmp_path / "x", b'{"instruction": "a", "input": NaN, "output": "b"}\n')
    conversion = convert([tmp_path / "x"], tmp_path / "out")
    assert records(tmp_path / "out") == [chat("a", "b")]
    assert conversion.to_json()["rows"] == {"total": 1, "usable": 1, "rejected": 0, "repaired": 1}


@pytest.mark.parametrize("rows", [ALPACA, SHAREGPT, MESSAGES, [row for row, _ in ROWS.values() if "messages" in row]])
def test_what_is_converted_converts_to_itself(rows: list[Any], tmp_path: Path) -> None:
    first = convert([put(tmp_path / "x", rows)], tmp_path / "one")
    again = convert([tmp_path / "one" / "data.jsonl"], tmp_path / "two")
    folder = convert([tmp_path / "one"], tmp_path / "three")
    assert first.sha256 == again.sha256 == folder.sha256
    assert first.sha256 is not None


LAYOUTS = {
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "preference in turns": {**SHAREGPT[0], "chosen": {"from": "gpt", "value": "b"}, "rejected": "c"},
    "feedback": {**MESSAGES[0], "label": True},
    "blocks": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": "a"}]},
            {"role": "assistant", "content": [{"type": "text", "value": "b"}]},
        ]
    },
    "pairs": {"conversation": [{"human": "a", "assistant": "b"}]},
    "dolly": {"instruction": "a", "context": "b", "response": "c", "category": "d"},
    "query-response": {"query": "a", "response": "b"},
    "prompt-completion": {"prompt": "a", "completion": "b"},
    "text": {"text": "a"},
    "flat-chat": {"instruction": "Human: a\nAssistant:", "input": "", "output": "b"},
    "tokens": {"input_ids": [1], "labels": [1]},
    "stepwise": {"prompt": "a", "completions": ["b"], "labels": [True]},
    "prompts": {"prompt": [{"role": "user", "content": "a"}]},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_not_taken_for_another(name: str, tmp_path: Path) -> None:
    conversion = convert([put(tmp_path / "x", [LAYOUTS[name]] * 3)], tmp_path / "out")
    assert (conversion.inspection.format, conversion.inspection.confidence > 0.4) == (name.split()[0], True)
    assert conversion.to_json()["rows"] == {"total": 3, "usable": 3, "rejected": 0, "repaired": 0}


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"toy_input": "a", "toy_output": "b"}, "table"),
        ({"turns": ["a", "b"], "question_id": 1}, "not-training-data"),
        ("a word", "not-training-data"),
        ({"accuracy": 0.5, "steps": 10}, "not-training-data"),
    ],
)
def test_what_has_no_layout_is_called_so(row: Any, format: str, tmp_path: Path) -> None:
    path = put(tmp_path / "x", json.dumps([row, row]).encode())
    inspection = inspect([path])
    assert (inspection.format, inspection.stage) == (format, None)
    assert inspection.to_json()["rows"] == {"total": 2, "usable": 0, "rejected": 2, "repaired": 0}
    assert inspection.input.tally.counts == {}
