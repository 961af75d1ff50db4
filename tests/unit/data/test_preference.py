"""Answers that are compared or rated: every spelling becomes one record, parted from its prompt as TRL parts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.data import Reading, convert
from tests.unit.data.write import put, records

pytestmark = pytest.mark.unit

TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def pair(*prompt: dict[str, str], chosen: str = "b", rejected: str = "c") -> dict[str, Any]:
    return {"prompt": list(prompt), "chosen": [answer(chosen)], "rejected": [answer(rejected)]}


def one(row: Any, tmp_path: Path, reading: Reading | None = None) -> Any:
    """The record of a row, its layout as detected."""
    conversion = convert([put(tmp_path / "x", [row])], tmp_path / "out", reading or Reading(), accept_rejected=True)
    assert conversion.inspection.input.tally.to_json() == []
    return conversion.inspection.format, records(tmp_path / "out")[0]


def code(row: Any, tmp_path: Path, others: list[Any]) -> str:
    """The code of a row that is set aside among others."""
    convert([put(tmp_path / "x", [*others, row])], tmp_path / "out", accept_rejected=True)
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()
    return str(json.loads(line)["code"])


PAIRS = {
    "texts": ({"prompt": "a", "chosen": "b", "rejected": "c"}, pair(user("a"))),
    "texts keep their spaces": (
        {"prompt": "a ", "chosen": " b", "rejected": " c\n"},
        pair(user("a "), chosen=" b", rejected=" c\n"),
    ),
    "lists": ({"prompt": [user("a")], "chosen": [answer("b")], "rejected": [answer("c")]}, pair(user("a"))),
    "objects": ({"prompt": "a", "chosen": answer("b"), "rejected": answer("c")}, pair(user("a"))),
    "a text and lists of whole chats": (
        {"prompt": "a", "chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c")]},
        pair(user("a")),
    ),
    "a text, a text and a list": (
        {"prompt": "a", "chosen": "b", "rejected": [user("a"), answer("c")]},
        pair(user("a")),
    ),
    "lists win over a text that differs": (
        {"prompt": "other", "chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c")]},
        pair(user("a")),
    ),
    "lists keep the system prompt of a column": (
        {"system": "s", "prompt": "a", "chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c")]},
        pair(system("s"), user("a")),
    ),
    "whole chats without a prompt": (
        {"chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c")]},
        pair(user("a")),
    ),
    "whole chats of several turns": (
        {
            "chosen": [system("s"), user("a"), answer("x"), user("y"), answer("b")],
            "rejected": [system("s"), user("a"), answer("x"), user("y"), answer("c")],
        },
        pair(system("s"), user("a"), answer("x"), user("y")),
    ),
    "whole chats that part early": (
        {"chosen": [user("a"), answer("b")], "rejected": [user("a"), answer("c"), user("d"), answer("e")]},
        {
            "prompt": [user("a")],
            "chosen": [answer("b")],
            "rejected": [answer("c"), user("d"), answer("e")],
        },
    ),
    "texts without a prompt": (
        {"chosen": "the sky is blue today", "rejected": "the sky is black today"},
        pair(user("the sky is"), chosen=" blue today", rejected=" black today"),
    ),
    "one text longer than the other": (
        {"chosen": "so it is", "rejected": "so it is not"},
        pair(user("so it"), chosen=" is", rejected=" is not"),
    ),
    "texts without a space": (
        {"chosen": "天是蓝的", "rejected": "天是黑的"},
        pair(user("天是"), chosen="蓝的", rejected="黑的"),
    ),
    "rendered chats": (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        pair(user("a")),
    ),
    "rendered chats of several turns": (
        {
            "chosen": "\n\nHuman: a\n\nAssistant: x\n\nHuman: y\n\nAssistant: b",
            "rejected": "\n\nHuman: a\n\nAssistant: x\n\nHuman: y\n\nAssistant: c",
        },
        pair(user("a"), answer("x"), user("y")),
    ),
    "a rendered prompt": (
        {"prompt": "\n\nHuman: a\n\nAssistant: x\n\nHuman: y\n\nAssistant:", "chosen": " b", "rejected": " c"},
        pair(user("a"), answer("x"), user("y"), chosen=" b", rejected=" c"),
    ),
    "a prompt of questions and answers stays one text": (
        {"prompt": "Q: a\nA: x\nQ: y\nA:", "chosen": " b", "rejected": " c"},
        pair(user("Q: a\nA: x\nQ: y\nA:"), chosen=" b", rejected=" c"),
    ),
    "chats as JSON in a cell": (
        {"chosen": json.dumps([user("a"), answer("b")]), "rejected": json.dumps([user("a"), answer("c")])},
        pair(user("a")),
    ),
    "conversations and objects": (
        {
            "conversations": [{"from": "human", "value": "a"}],
            "chosen": {"from": "gpt", "value": "b"},
            "rejected": {"from": "gpt", "value": "c"},
        },
        pair(user("a")),
    ),
    "conversations and texts": (
        {"conversations": [{"from": "human", "value": "a"}], "chosen": "b", "rejected": "c"},
        pair(user("a")),
    ),
    "OpenAI's": (
        {"input": {"messages": [user("a")]}, "preferred_output": [answer("b")], "non_preferred_output": [answer("c")]},
        pair(user("a")),
    ),
    "OpenAI's with tools": (
        {
            "input": {"messages": [user("a")], "tools": [{"type": "function", "function": TOOL}]},
            "preferred_output": [answer("b")],
            "non_preferred_output": [answer("c")],
        },
        {**pair(user("a")), "tools": [{"type": "function", "function": TOOL}]},
    ),
    "Stack Exchange's": ({"question": "a", "response_j": "b", "response_k": "c"}, pair(user("a"))),
    "ms-swift's": ({"messages": [user("a"), answer("b")], "rejected_response": "c"}, pair(user("a"))),
    "ms-swift's with two chats": (
        {"messages": [user("a"), answer("b")], "rejected_messages": [user("a"), answer("c")]},
        pair(user("a")),
    ),
    "ms-swift's columns": (
        {"history": [["q", "r"]], "query": "a", "response": "b", "rejected_response": "c"},
        pair(user("q"), answer("r"), user("a")),
    ),
    "LLaMA-Factory's blocks": (
        {
            "chosen_messages": [
                {"role": "user", "content": [{"type": "text", "value": "a"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "b"}], "loss_weight": 1.0},
            ],
            "rejected_messages": [
                {"role": "user", "content": [{"type": "text", "value": "a"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "c"}], "loss_weight": 1.0},
            ],
        },
        pair(user("a")),
    ),
    "LLaMA-Factory's columns": (
        {"instruction": "a", "input": "i", "chosen": "b", "rejected": "c"},
        pair(user("a\ni")),
    ),
    "LLaMA-Factory's older list": ({"instruction": "a", "input": "", "output": ["b", "c"]}, pair(user("a"))),
    "torchtune's": (
        {"chosen_conversations": [user("a"), answer("b")], "rejected_conversations": [user("a"), answer("c")]},
        pair(user("a")),
    ),
    "Argilla's": ({"instruction": "a", "chosen_response": "b", "rejected_response": "c"}, pair(user("a"))),
    "Orca's with more columns": (
        {"system": "s", "question": "a", "chosen": "b", "rejected": "c", "score": 1.5, "note": ""},
        {**pair(system("s"), user("a")), "meta": {"score": 1.5}},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_becomes_its_record(name: str, tmp_path: Path) -> None:
    row, expected = PAIRS[name]
    assert one(row, tmp_path) == ("preference", expected)


@pytest.mark.parametrize("name", PAIRS)
def test_a_record_of_a_pair_converts_to_itself(name: str, tmp_path: Path) -> None:
    expected = PAIRS[name][1]
    assert one(expected, tmp_path) == ("preference", expected)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_can_be_read_as_a_chat(name: str, tmp_path: Path) -> None:
    row, expected = PAIRS[name]
    rest = {key: expected[key] for key in ("tools", "meta") if key in expected}
    chat = {"messages": expected["prompt"] + expected["chosen"], **rest}
    assert one(row, tmp_path, Reading(stage="sft")) == ("preference", chat)


def test_the_split_is_that_of_trl(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl.data_utils")
    for name in ("whole chats without a prompt", "whole chats of several turns", "whole chats that part early"):
        row, expected = PAIRS[name]
        assert trl.extract_prompt(row) == expected


SET_ASIDE = [
    ({"prompt": "a", "chosen": "b"}, "missing-key"),
    ({"prompt": "a", "chosen": "b", "rejected": None}, "null-content"),
    ({"prompt": None, "chosen": "b", "rejected": "c"}, "missing-key"),
    ({"prompt": "", "chosen": "b", "rejected": "c"}, "empty-user"),
    ({"prompt": "a", "chosen": " ", "rejected": "c"}, "empty-assistant"),
    ({"prompt": "a", "chosen": "b", "rejected": ""}, "empty-assistant"),
    ({"prompt": "a", "chosen": "b", "rejected": 3}, "wrong-type"),
    ({"prompt": "a", "chosen": [user("b")], "rejected": [user("c")]}, "missing-key"),
    ({"prompt": "a", "chosen": "b", "rejected": [{"role": "narrator", "content": "c"}]}, "unknown-role"),
    ({"prompt": "a", "chosen": "b", "rejected": [{"role": "tool", "content": "c"}]}, "no-assistant"),
    ({"prompt": "a", "chosen": "b", "rejected": "c", "images": ["x.png"]}, "multimodal"),
    ({"prompt": "a", "chosen": "b", "rejected": "c", "tools": "{"}, "bad-tool-json"),
    (
        {"chosen": [user("a"), answer("b")], "rejected": [user("other"), answer("c")]},
        "missing-key",
    ),
    ([1, 2], "not-an-object"),
]


@pytest.mark.parametrize(("row", "expected"), SET_ASIDE)
def test_a_pair_that_cannot_be_compared_is_set_aside(row: Any, expected: str, tmp_path: Path) -> None:
    others = [{"prompt": str(number), "chosen": "b", "rejected": "c"} for number in range(3)]
    assert code(row, tmp_path, others) == expected


def test_two_equal_answers_are_kept_and_noted(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "b"}
    conversion = convert([put(tmp_path / "x", [row])], tmp_path / "out")
    assert conversion.inspection.input.tally.counts == {"no-trained-token": 1}
    assert records(tmp_path / "out") == [pair(user("a"), rejected="b")]


def rated(*prompt: dict[str, str], label: bool = True, completion: str = "b") -> dict[str, Any]:
    return {"prompt": list(prompt), "completion": [answer(completion)], "label": label}


RATED = {
    "texts": ({"prompt": "a", "completion": "b", "label": True}, rated(user("a"))),
    "lists": ({"prompt": [user("a")], "completion": [answer("b")], "label": False}, rated(user("a"), label=False)),
    "messages": ({"messages": [user("a"), answer("b")], "label": True}, rated(user("a"))),
    "several turns": (
        {"messages": [system("s"), user("a"), answer("x"), user("y"), answer("b")], "label": False},
        rated(system("s"), user("a"), answer("x"), user("y"), label=False),
    ),
    "conversations": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "kto_tag": True},
        rated(user("a")),
    ),
    "a whole completion": ({"completion": [user("a"), answer("b")], "label": True}, rated(user("a"))),
    "alpaca": ({"instruction": "a", "input": "i", "output": "b", "kto_tag": False}, rated(user("a\ni"), label=False)),
    "query and response": (
        {"system": "s", "query": "a", "response": "b", "label": True},
        rated(system("s"), user("a")),
    ),
    "words, as in a table": ({"prompt": "a", "completion": "b", "label": "False"}, rated(user("a"), label=False)),
    "tools and more": (
        {"messages": [user("a"), answer("b")], "label": True, "tools": [TOOL], "id": 3},
        {**rated(user("a")), "tools": [{"type": "function", "function": TOOL}], "meta": {"id": 3}},
    ),
}


@pytest.mark.parametrize("name", RATED)
def test_a_rated_answer_becomes_its_record(name: str, tmp_path: Path) -> None:
    row, expected = RATED[name]
    assert one(row, tmp_path) == ("feedback", expected)
    assert one(expected, tmp_path) == ("feedback", expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": "b", "label": None}, "null-content"),
        ({"prompt": "a", "completion": "b", "label": 1}, "wrong-type"),
        ({"prompt": "a", "completion": "b", "label": "good"}, "wrong-type"),
        ({"prompt": "a", "completion": "b"}, "missing-key"),
        ({"prompt": "a", "completion": "", "label": True}, "empty-assistant"),
        ({"prompt": "a", "completion": [user("b")], "label": True}, "no-assistant"),
    ],
)
def test_an_answer_without_a_rating_is_set_aside(row: Any, expected: str, tmp_path: Path) -> None:
    others = [{"prompt": str(number), "completion": "b", "label": True} for number in range(3)]
    assert code(row, tmp_path, others) == expected


def test_0_and_1_are_ratings_where_the_user_says_so(tmp_path: Path) -> None:
    rows = [{"prompt": str(number), "completion": "b", "label": number % 2} for number in range(4)]
    convert([put(tmp_path / "x", rows)], tmp_path / "out", Reading(format="feedback"))
    assert [record["label"] for record in records(tmp_path / "out")] == [False, True, False, True]
