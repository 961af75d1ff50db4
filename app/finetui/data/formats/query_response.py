"""Layout `query-response`: a question column and an answer column under any of their names, with system and history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.columns import fit_columns, most_common
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.prompt_completion import are_messages, fit_prompt

_PAIRS = (
    ("query", "response"), ("question", "answer"), ("question", "response"), ("prompt", "response"),
    ("input", "output"), ("request", "response"), ("message_1", "message_2"), ("article", "summary"),
)  # fmt: skip


def _pair(row: Any) -> tuple[str, str] | None:
    """The question and the answer column of a row; neither is a table of its own."""
    if type(row) is not dict:
        return None
    for question, answer in _PAIRS:
        if question in row and answer in row and _is_said(row[question]) and _is_said(row[answer]):
            return question, answer
    return None


def _is_said(value: Any) -> bool:
    return type(value) not in (list, dict) or are_messages(value)


def _recognise(row: Any) -> bool:
    return _pair(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    question, answer = most_common(_pair, rows, _PAIRS[0])
    if any(type(row) is dict and type(row.get(question)) is list for row in rows):
        return fit_prompt(rows, question, answer)
    return fit_columns(rows, question, answer)


LAYOUT = Layout("query-response", _recognise, "sft", _fit)
