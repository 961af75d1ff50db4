"""Layouts known by sight alone: recognised so that none of them is taken for a layout that is converted."""

from __future__ import annotations

from typing import Any

from finetui.data.formats.layout import Layout

_TURNS = ("messages", "conversations", "conversation")
_ANSWERS = ("completion", "response", "output", "answer")
_PAIRED = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("messages", "rejected_response"),
    ("response_j", "response_k"),
    ("preferred_output", "non_preferred_output"),
)
_QUERIES = (
    ("query", "response"), ("question", "answer"), ("prompt", "response"), ("input", "output"), ("request", "response"),
    ("message_1", "message_2"), ("article", "summary"),
)  # fmt: skip
_METADATA = frozenset({"id", "meta", "metadata", "source", "lang", "url", "title", "timestamp", "category"})


def _has(row: Any, *keys: str) -> bool:
    return type(row) is dict and all(key in row for key in keys)


def _list_of(row: Any, column: str, test: Any) -> bool:
    value = row.get(column) if type(row) is dict else None
    return type(value) is list and bool(value) and all(test(item) for item in value)


def _preference(row: Any) -> bool:
    if any(_has(row, *pair) for pair in _PAIRED):
        return True
    answers = row.get("output") if type(row) is dict else None
    return type(answers) is list and len(answers) == 2 and all(type(answer) is str for answer in answers)


def _feedback(row: Any) -> bool:
    if type(row) is not dict or not any(type(row.get(key)) is bool for key in ("label", "kto_tag")):
        return False
    return any(key in row for key in (*_TURNS, *_ANSWERS))


def _blocks(row: Any) -> bool:
    """LLaMA-Factory v1: text blocks with a `value`, or a weight on every message."""
    messages = row.get("messages") if type(row) is dict else None
    for message in messages if type(messages) is list else ():
        content = message.get("content") if type(message) is dict else None
        if type(content) is list and any(type(block) is dict and "value" in block for block in content):
            return True
    return False


def _pretrain(row: Any) -> bool:
    return _list_of(row, "messages", lambda item: type(item) is dict and item.get("role") == "pretrain")


def _pairs(row: Any) -> bool:
    def pair(item: Any) -> bool:
        return _has(item, "human", "assistant") or _has(item, "input", "output")

    if type(row) is list:
        return bool(row) and all(pair(item) for item in row)
    if _has(row, "input", "output") and type(row["input"]) is list and type(row["output"]) is list:
        return True
    return any(_list_of(row, column, pair) for column in _TURNS)


def _flat_instruction(row: Any) -> bool:
    """BELLE's conversations of several turns, rendered into the instruction."""
    instruction = row.get("instruction") if type(row) is dict else None
    return type(instruction) is str and instruction.rstrip().endswith(("Assistant:", "Assistant："))


def _oasst(row: Any) -> bool:
    if _has(row, "message_tree_id", "prompt") or (_has(row, "text", "role") and type(row.get("replies")) is list):
        return True
    return _has(row, "text", "role") and (_has(row, "parent_id") or _has(row, "parent_message_id"))


def _prompts(row: Any) -> bool:
    return _has(row, "prompt") and not any(key in row for key in (*_ANSWERS, "generation", "text"))


def _text(row: Any) -> bool:
    if type(row) is not dict:
        return False
    told = {key for key in row if key not in _METADATA and not key.startswith("_")}
    return len(told) == 1 and told <= {"text", "content", "document", "response"} and type(row[told.pop()]) is str


def _no_training(row: Any) -> bool:
    """Evaluation prompts, scored generations, registries, bare strings and numbers."""
    if type(row) is not dict:
        return type(row) is not list or not any(type(item) is dict for item in row)
    if _has(row, "turns") or _has(row, "prompt", "generation"):
        return True
    return not any(type(value) is str and value for value in row.values()) and not any(
        type(value) is list and value and type(value[0]) is dict for value in row.values()
    )


BEFORE_CHAT = (
    Layout("tokens", lambda row: _has(row, "input_ids", "labels"), "columns input_ids and labels"),
    Layout("segments", lambda row: _list_of(row, "segments", lambda item: _has(item, "text")), "a list of segments"),
    Layout("stepwise", lambda row: _has(row, "completions", "labels"), "columns completions and labels"),
    Layout("preference", _preference, "a chosen and a rejected answer"),
    Layout("feedback", _feedback, "an answer with a boolean label"),
    Layout("blocks", _blocks, "messages of blocks with a value"),
    Layout("text", _pretrain, "messages of the role pretrain"),
)
"""Layouts that a chat layout could be mistaken for, so they are asked first."""

BEFORE_COLUMNS = (
    Layout("pairs", _pairs, "a list of question and answer pairs"),
    Layout("flat-chat", _flat_instruction, "an instruction that ends in Assistant:"),
    Layout(
        "dolly", lambda row: _has(row, "instruction", "context", "response"), "columns instruction, context, response"
    ),
    Layout("seed-tasks", lambda row: _has(row, "instruction", "instances"), "columns instruction and instances"),
    Layout("oasst", _oasst, "messages that name their parent"),
)

AFTER_COLUMNS = (
    Layout("query-response", lambda row: any(_has(row, *pair) for pair in _QUERIES), "a question and an answer column"),
    Layout("prompt-completion", lambda row: _has(row, "prompt", "completion"), "columns prompt and completion"),
    Layout("text", _text, "one column of text"),
    Layout("prompts", _prompts, "a prompt without an answer"),
    Layout("not-training-data", _no_training, "nothing that could be a question or an answer"),
    Layout("table", lambda row: type(row) is dict and bool(row), "columns of no known layout"),
)
