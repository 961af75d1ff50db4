"""Layout `dolly`: instruction, context, response and category; the context belongs to the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.columns import fit_columns
from finetui.data.formats.layout import Adapter, Layout


def _recognise(row: Any) -> bool:
    return type(row) is dict and "instruction" in row and "context" in row and "response" in row


def _fit(rows: Sequence[Any]) -> Adapter:
    return fit_columns(rows, "instruction", "response", more="context")


LAYOUT = Layout("dolly", _recognise, "sft", _fit)
