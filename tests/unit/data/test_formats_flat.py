"""Chats rendered into one text are taken apart at their markers; plain text stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.data import convert, inspect
from tests.unit.data.write import chat, put, records

pytestmark = pytest.mark.unit


def under_system(system: str, *said: str) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": system}, *chat(*said)["messages"]]}


def codes(out: Path) -> list[str]:
    return [json.loads(line)["code"] for line in (out / "rejected.jsonl").read_text("utf-8").splitlines()]


FLAT = {
    "hashes on one line": ("### Human: a b ### Assistant: c", chat("a b", "c")),
    "hashes without space before them": (
        "### Human: a### Assistant: b\n### Sub: c### Human: d### Assistant: e",
        chat("a", "b\n### Sub: c", "d", "e"),
    ),
    "hashes of User": ("### System:\ns\n\n### User:\na\n\n### Assistant:\nb\n", under_system("s", "a", "b")),
    "hashes in Chinese": ("### 指令：\n甲\n\n### 输入：\n乙\n\n### 回答：\n丙", chat("甲\n乙", "丙")),
    "alpaca's template": (
        "Below is an instruction.\n\n### Instruction:\na\n\n### Input:\nb\n\n### Response:\nc",
        under_system("Below is an instruction.", "a\nb", "c"),
    ),
    "alpaca's template without input": (
        "### Instruction:\na\n\n### Input:\n\n### Response:\nc\n\n### End",
        chat("a", "c"),
    ),
    "a heading within an answer": (
        "### Instruction:\na\n\n### Response:\nb\n### Output: c\n### Input: d",
        chat("a", "b\n### Output: c\n### Input: d"),
    ),
    "Llama 2": (
        "<s>[INST] <<SYS>>\ns\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST] d </s>",
        under_system("s", "a", "b", "c", "d"),
    ),
    "Mistral": ("<s>[INST] a [/INST]b</s>[INST] c [/INST]d</s>", chat("a", "b", "c", "d")),
    "ChatML": (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb\n\nc<|im_end|>\n",
        under_system("s", "a", "b\n\nc"),
    ),
    "Llama 3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>",
        chat("a", "b"),
    ),
    "Gemma": ("<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n", chat("a", "b")),
    "Zephyr": ("<|system|>\ns</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>", under_system("s", "a", "b")),
    "Vicuna": (
        "A chat. USER: a b ASSISTANT: c</s>USER: d ASSISTANT: e</s>",
        under_system("A chat.", "a b", "c", "d", "e"),
    ),
    "Anthropic": (
        "\n\nHuman: a\n\nAssistant: b\nHuman: quoted\n\nHuman: c\n\nAssistant: d",
        chat("a", "b\nHuman: quoted", "c", "d"),
    ),
    "lines": ("Human: 甲\nAssistant: 乙\nHuman：丙\nAssistant：丁", chat("甲", "乙", "丙", "丁")),
    "lines in sentence tokens": ("<s>Human: a\n</s><s>Assistant: b\n</s>", chat("a", "b")),
    "one line": ("Human: a Assistant: b", chat("a", "b")),
    "a name that only one text uses": ("Human: a\nUser: b\nAssistant: c", chat("a\nUser: b", "c")),
    "Q and A": ("Q: a?\nA: b\nQ: c?\nA: d", chat("a?", "b", "c?", "d")),
    "Q and A under a system prompt": ("Be kind.\nQ: a?\nA: b", under_system("Be kind.", "a?", "b")),
    "choices within a question": ("Question: a\nA: x\nB: y\nAnswer: A", chat("a\nA: x\nB: y", "A")),
    "questions in Chinese": ("问：甲\n答：乙", chat("甲", "乙")),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_rendered_chat_is_taken_apart(name: str, tmp_path: Path) -> None:
    text, expected = FLAT[name]
    conversion = convert([put(tmp_path / "x", [{"text": text}] * 3)], tmp_path / "out")
    contract = conversion.to_json()
    assert (contract["format"], contract["stage"]) == ("flat-chat", "sft")
    assert records(tmp_path / "out") == [expected] * 3
    again = convert([tmp_path / "out" / "data.jsonl"], tmp_path / "again")
    assert (again.to_json()["format"], again.sha256) == ("messages", conversion.sha256)


def test_the_last_answer_of_belle_stands_in_its_own_column(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Human: a\nAssistant:", "input": "", "output": " b\nHuman: kept "},
        {"instruction": "Human:a\nAssistant:b\nHuman:c\nAssistant：\n", "input": "", "output": "d"},
        {"instruction": "no marker", "input": "", "output": "d"},
        {"instruction": "Human: a\nAssistant:", "input": "more", "output": "d"},
        {"instruction": "Human: a\nAssistant:", "input": "", "output": ""},
        {"instruction": "Human: e\nAssistant:", "output": "f", "id": 1},
    ]
    conversion = convert([put(tmp_path / "x", rows)], tmp_path / "out", accept_rejected=True)
    assert conversion.to_json()["format"] == "flat-chat"
    assert records(tmp_path / "out") == [
        chat("a", " b\nHuman: kept "),
        chat("a", "b", "c", "d"),
        {**chat("e", "f"), "meta": {"id": 1}},
    ]
    assert codes(tmp_path / "out") == ["no-assistant", "wrong-type", "empty-assistant"]


DEFECTS = {
    "without markers": ("just text", "no-assistant"),
    "without an answer": ("### Human: a ### Assistant:", "empty-assistant"),
    "without a question": ("### Human: ### Assistant: b", "empty-user"),
    "null": (None, "null-content"),
    "no text": (7, "wrong-type"),
    "with a speaker nobody knows": (
        "<|im_start|>user\na<|im_end|><|im_start|>narrator\nb<|im_end|><|im_start|>assistant\nc",
        "unknown-role",
    ),
    "with text between the turns": (
        "<|im_start|>user\na<|im_end|>lost<|im_start|>assistant\nb<|im_end|>",
        "wrong-type",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_rendered_chat_with_a_defect_is_set_aside(name: str, tmp_path: Path) -> None:
    text, code = DEFECTS[name]
    put(tmp_path / "x", [*[{"text": "### Human: a ### Assistant: b"}] * 30, {"text": text}])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert codes(tmp_path / "out") == [code]


@pytest.mark.parametrize("marked", [89, 91])
def test_nine_rows_of_ten_make_a_chat(marked: int, tmp_path: Path) -> None:
    rows = [{"text": "Q: a\nA: b"}] * marked + [{"text": "a plain page"}] * (100 - marked)
    inspection = inspect([put(tmp_path / "x", rows)])
    assert (inspection.format, inspection.stage) == (("flat-chat", "sft") if marked > 90 else ("text", "pt"))


TEXT = {
    "text": ({"text": " a\n"}, {"text": " a\n"}),
    "content": ({"title": "A page", "content": "a b"}, {"text": "a b", "meta": {"title": "A page"}}),
    "document": ({"document": "a b"}, {"text": "a b"}),
    "response alone": ({"response": "a"}, {"text": "a"}),
    "the role pretrain": ({"messages": [{"role": "pretrain", "content": "a\n"}]}, {"text": "a\n"}),
    "columns of a crawl": (
        {"text": "a b", "id": "<urn:uuid:1>", "url": "https://a", "date": "2020-01-01T00:00:00Z", "token_count": 2},
        {
            "text": "a b",
            "meta": {"id": "<urn:uuid:1>", "url": "https://a", "date": "2020-01-01T00:00:00Z", "token_count": 2},
        },
    ),
}


@pytest.mark.parametrize("name", TEXT)
def test_plain_text_stays_as_it_is(name: str, tmp_path: Path) -> None:
    row, expected = TEXT[name]
    conversion = convert([put(tmp_path / "x", [row] * 3)], tmp_path / "out")
    assert (conversion.to_json()["format"], conversion.to_json()["stage"]) == ("text", "pt")
    assert records(tmp_path / "out") == [expected] * 3
    again = convert([tmp_path / "out" / "data.jsonl"], tmp_path / "again")
    assert (again.to_json()["format"], again.sha256) == ("text", conversion.sha256)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "good film", "label": 1},
        {"text": "good film", "sentiment": "positive"},
        {"text": "a long page of text", "summary": "a page"},
        {"text": "a long page of text", "translated": "eine lange Seite"},
        {"text": "the question", "choices": ["a", "b"]},
    ],
)
def test_text_beside_what_it_is_answered_with_is_a_table(row: dict[str, Any], tmp_path: Path) -> None:
    assert inspect([put(tmp_path / "x", [row] * 3)]).format == "table"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": None}, "null-content"),
        ({"text": " \n"}, "null-content"),
        ({"text": 7}, "wrong-type"),
        ({"other": "a"}, "missing-key"),
        (["a"], "not-an-object"),
        ({"text": "a", "images": ["x.png"]}, "multimodal"),
    ],
)
def test_text_that_is_none_is_set_aside(row: Any, code: str, tmp_path: Path) -> None:
    put(tmp_path / "x", [*[{"text": "a page"}] * 30, row])
    convert([tmp_path / "x"], tmp_path / "out", accept_rejected=True)
    assert codes(tmp_path / "out") == [code]


def test_white_space_without_end_takes_no_time(tmp_path: Path) -> None:
    text = "### Human: a" + " \n" * 500_000 + "</s>" * 100_000 + "### Assistant: b" + "#" * 500_000
    convert([put(tmp_path / "x", [{"text": text}])], tmp_path / "out")
    assert records(tmp_path / "out") == [chat("a", "b" + "#" * 500_000)]
