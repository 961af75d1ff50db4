"""Layout `dolly`: instruction, context, response and category; the context belongs to the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.columns import fit_columns, most_common
from finetui.data.formats.layout import Adapter, Layout

_ANSWERS = ("response", "output")


def _answer(row: Any) -> str | None:
    if type(row) is not dict or "instruction" not in row or "context" not in row or row.get("input"):
        return None
    return next((key for key in _ANSWERS if key in row), None)


def _recognise(row: Any) -> bool:
    return _answer(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    return fit_columns(rows, "instruction", most_common(_answer, rows, _ANSWERS[0]), more="context")


LAYOUT = Layout("dolly", _recognise, "sft", _fit)
