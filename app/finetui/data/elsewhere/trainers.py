"""FastChat's and Qwen's training scripts: one JSON array of `conversations`, two roles, the rest a KeyError.

FastChat skips a first turn that is not the human's and then asserts that the two take turns; Qwen skips it too and
asserts nothing. Both ignore every other column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetui.data.elsewhere.tool import Judge, Table, Tool

_VICUNA_MARKS = ("</s>", " ASSISTANT: ")
"""What FastChat splits its rendered text by to find the answers; inside a text it makes the counts disagree, and the
whole row is masked."""


def _whole_file(table: Table) -> str | None:
    if table.compression or table.container != "json-array" or table.encoding != "utf-8":
        return "not-one-array"
    return None if table.format in ("sharegpt", "messages", "pairs") and table.column else "no-reader"


def _turns(row: Any, roles: tuple[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """The code that stops the script at a row, or an empty one with its turns."""
    items = row.get("conversations") if type(row) is dict else None
    if type(items) is not list or any(type(item) is not dict or "from" not in item for item in items):
        return "absent-key", []
    if not items:
        return "empty-conversation", []
    if any(type(item["from"]) is not str or item["from"] not in roles for item in items):
        return "role-key-error", []
    return ("", items) if all("value" in item for item in items) else ("absent-key", [])


def _common(row: dict[str, Any], first_kept: bool) -> Iterator[str]:
    if not first_kept:
        yield "first-turn-dropped"
    if row.get("system"):
        yield "system-ignored"
    if row.get("tools"):
        yield "tools-ignored"


def _fastchat(row: Any) -> Iterator[str]:
    stopped, turns = _turns(row, ("human", "gpt"))
    if stopped:
        yield stopped
        return
    first_kept = turns[0]["from"] == "human"
    turns = turns if first_kept else turns[1:]
    if any(turn["from"] != ("human", "gpt")[number % 2] for number, turn in enumerate(turns)):
        yield "order-assertion"
        return
    yield from _common(row, first_kept)
    if any(type(turn["value"]) is not str and turn["value"] is not None for turn in turns):
        yield "not-text"
    elif any(mark in (turn["value"] or "") for turn in turns for mark in _VICUNA_MARKS):
        yield "separator-in-text"
    elif any(not turn["value"] for turn in turns if turn["from"] == "gpt"):
        yield "empty-answer"


def _qwen(row: Any) -> Iterator[str]:
    stopped, turns = _turns(row, ("user", "assistant"))
    if stopped:
        yield stopped
        return
    first_kept = turns[0]["from"] == "user"
    turns = turns if first_kept else turns[1:]
    yield from _common(row, first_kept)
    if any(type(turn["value"]) is not str for turn in turns):
        yield "not-text"
    elif any(not turn["value"] for turn in turns if turn["from"] == "assistant"):
        yield "empty-answer"


def _judged_by(judge: Judge) -> Any:
    return lambda table: _whole_file(table) or judge


FASTCHAT = Tool("FastChat", "main, fastchat/train/train.py", _judged_by(_fastchat))
QWEN = Tool("Qwen finetune.py", "QwenLM/Qwen main, finetune.py", _judged_by(_qwen))
