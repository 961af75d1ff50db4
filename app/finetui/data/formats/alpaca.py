"""Layout `alpaca`: instruction, input and output columns, with a system column and a history of earlier turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.columns import fit_columns, most_common
from finetui.data.formats.layout import Adapter, Layout

_ANSWERS = ("output", "response")


def _answer(row: Any) -> str | None:
    if type(row) is not dict or "instruction" not in row:
        return None
    return next((key for key in _ANSWERS if key in row), None)


def _recognise(row: Any) -> bool:
    return _answer(row) is not None


def _fit(rows: Sequence[Any]) -> Adapter:
    return fit_columns(rows, "instruction", most_common(_answer, rows, "output"), more="input", ignored="text")


LAYOUT = Layout("alpaca", _recognise, "sft", _fit)
