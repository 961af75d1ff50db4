"""LLaMA-Factory: alpaca and sharegpt converters, then the processor of the stage, which drops without a total.

The entry in `dataset_info.json` is taken to be the documented one of the layout, with every column named: the default
tags for from/value turns, the tags of its "OpenAI format" for role/content turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from finetui.data.elsewhere.tool import Judge, Table, Tool

_ENDINGS = frozenset({"arrow", "csv", "json", "jsonl", "parquet", "txt"})
_ALPACA = {
    "alpaca": ("instruction", "input", ("output", "response")),
    "dolly": ("instruction", "context", ("response",)),
    "query-response": ("", "", ()),
    "prompt-completion": ("prompt", "", ("completion",)),
}
_QUESTIONS = ("query", "question", "prompt", "input", "request", "message_1", "article")
_ANSWERS = ("response", "answer", "output", "message_2", "summary")
_THINKING = ("thinking", "reasoning_content", "reasoning")
_MARKS = ("weight", "train", "training", "loss", "loss_weight")
_PLAIN_ROLES = (("user",), ("assistant",), "system")
_SHAREGPT_ROLES = (("human", "observation"), ("gpt", "function_call"), "system")


def _judge(table: Table) -> str | Judge:
    if table.compression or table.ending not in _ENDINGS:
        return "unknown-ending"
    if table.format in ("messages", "sharegpt", "feedback", "preference") and table.column:
        return _turns(table)
    if table.format == "preference":
        return _pair
    if table.format in _ALPACA or table.format == "feedback":
        return _row_of_columns(table)
    if table.format == "text" and table.columns & {"text", "content", "document"}:
        return lambda row: _check_text(row, ("text", "content", "document"))
    return "no-reader"


def _check_text(row: Any, names: tuple[str, ...]) -> Iterator[str]:
    said = next((row[name] for name in names if name in row), None) if type(row) is dict else None
    if type(said) is not str:
        yield "not-text"


def _row_of_columns(table: Table) -> Judge:
    question, more, answers = _ALPACA.get(table.format or "", ("prompt", "", ("completion",)))
    if table.format == "query-response":
        question = next((name for name in _QUESTIONS if name in table.columns), "query")
        answers = tuple(name for name in _ANSWERS if name in table.columns and name != question)
    answer = next((name for name in answers if name in table.columns), answers[0] if answers else "response")

    def judge(row: Any) -> Iterator[str]:
        if type(row) is not dict:
            yield "unreadable-row"
            return
        asked = [row.get(name) for name in (question, more) if name and row.get(name)]
        if any(type(part) is not str for part in asked):
            yield "not-text"
        said = row.get(answer)
        if type(said) is not str:
            yield "not-text" if type(row.get("label")) is bool else "no-answer"
        elif not said:
            yield "empty-answer"
        for pair in row.get("history") or ():
            if len(pair) != 2 or any(type(part) is not str for part in pair):
                yield "not-text"
                break

    return judge


def _pair(row: Any) -> Iterator[str]:
    if type(row) is not dict:
        yield "unreadable-row"
        return
    sides = [row.get("chosen"), row.get("rejected")]
    if type(row.get("prompt") or "") is not str:
        yield "not-text"
    elif any(type(side) is not str for side in sides):
        yield "pair-not-text"


def _turns(table: Table) -> Judge:
    def judge(row: Any) -> Iterator[str]:
        items = row.get(table.column) if type(row) is dict else None
        if type(items) is not list or any(type(item) is not dict for item in items):
            yield "absent-key" if type(row) is dict else "unreadable-row"
            return
        pair = type(row.get("chosen")) is dict or type(row.get("rejected")) is dict
        if "chosen" in row and not pair:
            yield "pair-not-text"
            return
        yield from _check_turns(items, pair)
        tools = row.get("tools")
        if tools and type(tools) is not str:
            yield "tools-not-text"

    return judge


def _check_turns(items: list[dict[str, Any]], pair: bool) -> Iterator[str]:
    speaker, content = ("from", "value") if any("from" in item for item in items) else ("role", "content")
    asking, answering, system = _SHAREGPT_ROLES if speaker == "from" else _PLAIN_ROLES
    if any(speaker not in item or content not in item for item in items):
        yield "absent-key"
        return
    turns = items[1:] if items and items[0][speaker] == system else items
    for number, turn in enumerate(turns):
        if turn[speaker] not in (asking, answering)[number % 2]:
            yield "role-order" if turn[speaker] in (*asking, *answering, system) else "unknown-tag"
            return
    if not turns:
        yield "no-answer"
        return
    if len(turns) % 2 != pair:
        yield "ends-on-user"
        return
    yield from _check_contents(turns, speaker, content)


def _check_contents(turns: list[dict[str, Any]], speaker: str, content: str) -> Iterator[str]:
    for turn in turns:
        said = turn[content]
        if turn.get("tool_calls"):
            yield "calls-ignored"
        if type(said) is not str:
            yield "not-text"
        elif not said and turn[speaker] in ("gpt", "assistant"):
            yield "empty-answer"
        elif turn[speaker] == "function_call" and not _is_calls(said):
            yield "calls-not-json"
        if any(turn.get(key) for key in _THINKING):
            yield "thinking-ignored"
        if any(key in turn and turn[key] is not None and not turn[key] for key in _MARKS):
            yield "marks-ignored"


def _is_calls(text: str) -> bool:
    try:
        calls = json.loads(text)
    except (ValueError, RecursionError):
        return False
    found = calls if type(calls) is list else [calls]
    return all(type(call) is dict and "name" in call and "arguments" in call for call in found)


TOOL = Tool("LLaMA-Factory", "0.9.5, src/llamafactory/data/converter.py", _judge)
