"""Questions and answers in columns, lists and blocks become chats, verbatim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.data import convert, inspect
from tests.unit.data.write import ALPACA, chat, put, records

pytestmark = pytest.mark.unit

SYSTEM = {"role": "system", "content": "s"}
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {}}}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def under_system(*said: str) -> dict[str, Any]:
    return {"messages": [SYSTEM, *chat(*said)["messages"]]}


def rejected(out: Path) -> list[tuple[int, str]]:
    lines = (out / "rejected.jsonl").read_text("utf-8").splitlines()
    return [(row["row"], row["code"]) for row in map(json.loads, lines)]


def block(kind: str, value: str) -> dict[str, str]:
    return {"type": kind, "value": value}


ROWS = {
    "query-response": ({"query": "a", "response": "b"}, chat("a", "b")),
    "query-response with a history": (
        {"system": "s", "query": "e", "response": "f", "history": [["a", "b"], ["c", "d"]]},
        under_system("a", "b", "c", "d", "e", "f"),
    ),
    "query-response with an empty history": ({"query": "a", "response": "b", "history": []}, chat("a", "b")),
    "query-response of question and answer": (
        {"id": 7, "question": "a", "answer": "b"},
        {**chat("a", "b"), "meta": {"id": 7}},
    ),
    "query-response of OpenOrca": (
        {"id": "t0.1", "system_prompt": "s", "question": "a", "response": "b"},
        {**under_system("a", "b"), "meta": {"id": "t0.1"}},
    ),
    "query-response with two system prompts": (
        {"query": "a", "response": "b", "system": "s", "system_prompt": "another"},
        under_system("a", "b"),
    ),
    "query-response of prompt and response": ({"prompt": "a", "response": "b"}, chat("a", "b")),
    "query-response of input and output": ({"input": " a\n", "output": "b "}, chat(" a\n", "b ")),
    "query-response of request and response": ({"request": "a", "response": "b"}, chat("a", "b")),
    "query-response of two messages": ({"message_1": "a", "message_2": "b"}, chat("a", "b")),
    "query-response of article and summary": ({"article": "a", "summary": "b"}, chat("a", "b")),
    "query-response with messages for a question": (
        {"prompt": [SYSTEM, {"role": "user", "content": "a"}], "response": "b"},
        under_system("a", "b"),
    ),
    "query-response with tools": (
        {"query": "a", "response": "b", "tools": json.dumps([TOOL])},
        {**chat("a", "b"), "tools": [{"type": "function", "function": TOOL}]},
    ),
    "prompt-completion": ({"prompt": "a is", "completion": " b."}, chat("a is", " b.")),
    "prompt-completion of messages": (
        {
            "prompt": [SYSTEM, *chat("a", "b", "c")["messages"]],
            "completion": [{"role": "assistant", "thinking": "t", "content": "d"}],
            "chat_template_kwargs": {"reasoning_effort": "low"},
        },
        {
            "messages": [
                SYSTEM,
                *chat("a", "b", "c")["messages"],
                {"role": "assistant", "content": "d", "thinking": "t"},
            ],
            "meta": {"chat_template_kwargs": {"reasoning_effort": "low"}},
        },
    ),
    "prompt-completion of a text and a message": (
        {"prompt": "a", "completion": {"role": "assistant", "content": "b"}},
        chat("a", "b"),
    ),
    "prompt-completion in the words of ShareGPT": (
        {"prompt": [{"from": "human", "value": "a"}], "completion": [{"from": "gpt", "value": "b"}]},
        chat("a", "b"),
    ),
    "dolly": (
        {"instruction": "a", "context": "b", "response": "c", "category": "closed_qa"},
        {**chat("a\nb", "c"), "meta": {"category": "closed_qa"}},
    ),
    "dolly with an output": ({"instruction": "a", "context": "b", "output": "c"}, chat("a\nb", "c")),
    "dolly without context": ({"instruction": "a", "context": "", "response": "c"}, chat("a", "c")),
    "seed-tasks": (
        {"id": "seed_task_0", "instruction": "a", "instances": [{"input": "b", "output": "c"}]},
        {**chat("a\nb", "c"), "meta": {"id": "seed_task_0"}},
    ),
    "pairs": ({"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}]}, chat(*"abcd")),
    "pairs of Firefly": (
        {"conversation_id": 1, "category": "c", "conversation": [{"human": "a", "assistant": "b"}], "dataset": "moss"},
        {**chat("a", "b"), "meta": {"conversation_id": 1, "category": "c", "dataset": "moss"}},
    ),
    "pairs under conversations": (
        {"system": "s", "conversations": [{"human": "a", "assistant": "b"}]},
        under_system("a", "b"),
    ),
    "pairs of xtuner": (
        {"conversation": [{"system": "s", "input": "a", "output": "b"}, {"input": "c", "output": "d"}]},
        under_system("a", "b", "c", "d"),
    ),
    "pairs with an answer that is not learnt": (
        {"conversation": [{"input": "a", "output": "b", "output_with_loss": False}, {"input": "c", "output": "d"}]},
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "train": False},
                *chat("c", "d")["messages"],
            ]
        },
    ),
    "pairs as two lists": ({"input": ["a", "c"], "output": ["b", "d"]}, chat("a", "b", "c", "d")),
    "blocks": (
        {
            "messages": [
                {"role": "user", "content": [block("text", "a"), block("text", "b")], "loss_weight": 0.0},
                {"role": "assistant", "content": [block("reasoning", "t"), block("text", "c")], "loss_weight": 1.0},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "ab"},
                {"role": "assistant", "content": "c", "thinking": "t"},
            ]
        },
    ),
    "blocks with a turn that is not learnt": (
        {
            "messages": [
                {"role": "user", "content": [block("text", "a")], "loss_weight": 0.0},
                {"role": "assistant", "content": [block("text", "b")], "loss_weight": 0.0},
                {"role": "user", "content": [block("text", "c")], "loss_weight": 0.0},
                {"role": "assistant", "content": [block("text", "d")], "loss_weight": 1.0},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "train": False},
                *chat("c", "d")["messages"],
            ]
        },
    ),
    "blocks of tool calls": (
        {
            "messages": [
                {"role": "user", "content": [block("text", "a")]},
                {"role": "assistant", "content": [block("tool_call", json.dumps(CALL["function"]))] * 2},
                {"role": "tool", "content": [block("text", "r")]},
                {"role": "assistant", "content": [block("text", "b")]},
            ],
            "tools": json.dumps([TOOL]),
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "tool_calls": [CALL, CALL]},
                {"role": "tool", "content": "r"},
                {"role": "assistant", "content": "b"},
            ],
            "tools": [{"type": "function", "function": TOOL}],
        },
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_its_record(name: str, tmp_path: Path) -> None:
    row, expected = ROWS[name]
    conversion = convert([put(tmp_path / "x", [row] * 3)], tmp_path / "out")
    contract = conversion.to_json()
    assert records(tmp_path / "out") == [expected] * 3
    assert (contract["format"], contract["stage"]) == (name.split()[0], "sft")
    again = convert([tmp_path / "out" / "data.jsonl"], tmp_path / "again")
    assert again.to_json()["format"] == "messages"
    assert again.sha256 == conversion.sha256


@pytest.mark.parametrize(
    "history",
    [
        [["a", "b"], ["c", "d"]],
        [{"user": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}],
        {"user": ["a", "c"], "assistant": ["b", "d"]},
        ["a", "b", "c", "d"],
        chat("a", "b", "c", "d")["messages"],
        json.dumps([["a", "b"], ["c", "d"]]),
        "[['a', 'b'], ['c', 'd']]",
    ],
)
@pytest.mark.parametrize("columns", [("query", "response"), ("instruction", "output")])
def test_a_history_of_any_shape_stands_before_the_question(
    history: Any, columns: tuple[str, str], tmp_path: Path
) -> None:
    row = {columns[0]: "e", columns[1]: "f", "history": history}
    convert([put(tmp_path / "x", [row])], tmp_path / "out")
    assert records(tmp_path / "out") == [chat("a", "b", "c", "d", "e", "f")]


def test_a_task_counts_as_many_rows_as_it_has_instances(tmp_path: Path) -> None:
    tasks = [
        {"instruction": "add", "instances": [{"input": f"{n}", "output": f"{n + 1}"} for n in range(3)]},
        {"instruction": "greet", "instances": [{"input": "", "output": ""}, {"input": "", "output": "hi"}]},
        {"instruction": "nothing", "instances": []},
        {"instruction": "big", "id": 2**80 + 1, "instances": [{"output": "b"}, {"output": "c", "score": 1e300}]},
    ]
    path = put(tmp_path / "x", tasks)
    conversion = convert([path], tmp_path / "out", accept_rejected=True)
    assert conversion.to_json()["rows"] == {"total": 8, "usable": 6, "rejected": 2, "repaired": 0}
    assert records(tmp_path / "out") == [
        *(chat(f"add\n{n}", f"{n + 1}") for n in range(3)),
        chat("greet", "hi"),
        {**chat("big", "b"), "meta": {"id": 2**80 + 1}},
        {**chat("big", "c"), "meta": {"id": 2**80 + 1, "score": 1e300}},
    ]
    assert rejected(tmp_path / "out") == [(4, "empty-assistant"), (6, "no-assistant")]
    first = json.loads((tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()[0])
    assert first["line"] == 2
    assert json.loads(first["raw"]) == {"instruction": "greet", "instances": [{"input": "", "output": ""}]}


BAD = {
    "an empty question": ({"query": " ", "response": "b"}, "empty-user"),
    "an empty answer": ({"query": "a", "response": ""}, "empty-assistant"),
    "a null answer": ({"query": "a", "response": None}, "null-content"),
    "a number for an answer": ({"query": "a", "response": 4}, "wrong-type"),
    "a row of another layout": ({"text": "a"}, "missing-key"),
    "an image": ({"query": "a", "response": "b", "images": ["x.png"]}, "multimodal"),
    "an image without a question": ({"query": "", "response": "b", "image": "x.png"}, "multimodal"),
    "a tag of Qwen-VL": ({"query": "<img>x.png</img>a", "response": "b"}, "multimodal"),
    "half a history": ({"query": "a", "response": "b", "history": [["c"]]}, "wrong-type"),
    "a history that is no list": ({"query": "a", "response": "b", "history": "earlier"}, "wrong-type"),
    "broken tools": ({"query": "a", "response": "b", "tools": "{"}, "bad-tool-json"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_with_a_defect_is_set_aside(name: str, tmp_path: Path) -> None:
    row, code = BAD[name]
    put(tmp_path / "x", [*[{"query": "a", "response": "b"}] * 3, row])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert rejected(tmp_path / "out") == [(4, code)]


DEFECTS_OF_PAIRS = {
    "an empty question": ([{"human": "", "assistant": "b"}], "empty-user"),
    "half a pair": ([{"human": "a"}], "missing-key"),
    "no pair": (["a"], "wrong-type"),
    "no list": ("a", "wrong-type"),
    "null": (None, "null-content"),
    "an empty list": ([], "no-assistant"),
}


@pytest.mark.parametrize("name", DEFECTS_OF_PAIRS)
def test_pairs_with_a_defect_are_set_aside(name: str, tmp_path: Path) -> None:
    value, code = DEFECTS_OF_PAIRS[name]
    put(tmp_path / "x", [*[{"conversation": [{"human": "a", "assistant": "b"}]}] * 3, {"conversation": value}])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert rejected(tmp_path / "out") == [(4, code)]


def test_lists_of_different_length_are_set_aside(tmp_path: Path) -> None:
    put(tmp_path / "x", [*[{"input": ["a"], "output": ["b"]}] * 3, {"input": ["a", "c"], "output": ["b"]}])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert rejected(tmp_path / "out") == [(4, "wrong-type")]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ([block("image_url", "x.png"), block("text", "a")], "multimodal"),
        ([{"type": "text", "value": None}], "null-content"),
        ([{"type": ["text"], "value": "a"}], "wrong-type"),
        ([block("tool_call", "{}"), block("text", "a")], "wrong-type"),
        ([block("text", "")], "empty-user"),
        ([], "empty-user"),
    ],
)
def test_blocks_that_are_no_text_are_set_aside(content: Any, code: str, tmp_path: Path) -> None:
    def row(asked: Any) -> dict[str, Any]:
        answer = {"role": "assistant", "content": [block("text", "b")]}
        return {"messages": [{"role": "user", "content": asked}, answer]}

    put(tmp_path / "x", [*[row([block("text", "a")])] * 3, row(content)])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert rejected(tmp_path / "out") == [(4, code)]


def test_a_call_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    def row(call: str) -> dict[str, Any]:
        answer = {"role": "assistant", "content": [block("tool_call", call)]}
        return {"messages": [{"role": "user", "content": [block("text", "a")]}, answer]}

    put(tmp_path / "x", [*[row(json.dumps(CALL["function"]))] * 3, row('{"name": "f", "argum')])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert rejected(tmp_path / "out") == [(4, "bad-tool-json")]


def test_answers_that_are_tables_of_their_own_are_not_guessed_at(tmp_path: Path) -> None:
    row = {"question": "a", "answer": {"value": "b", "aliases": ["c"]}}
    assert inspect([put(tmp_path / "x", [row] * 3)]).format == "table"


def test_what_is_in_the_columns_is_kept_in_the_mapping(tmp_path: Path) -> None:
    inspection = inspect([put(tmp_path / "x", [{**ALPACA[0], "system": "s", "text": "Below is …"}] * 3)])
    (report,) = inspection.input.files
    assert report.detection.adapter is not None
    assert report.detection.adapter.mapping == {
        "user": "instruction + input",
        "assistant": "output",
        "system": "system",
        "ignored": "text",
    }
