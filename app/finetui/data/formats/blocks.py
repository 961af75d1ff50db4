"""Layout `blocks`: messages of blocks of type and value, each with a loss weight (LLaMA-Factory v1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from finetui.data.formats import messages
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.problems import Saying


def _recognise(row: Any) -> bool:
    if type(row) is list:
        return _holds_blocks(row)
    return type(row) is dict and any(_holds_blocks(row.get(column)) for column in messages.COLUMNS)


def _holds_blocks(items: Any) -> bool:
    if type(items) is not list:
        return False
    contents = (item.get("content") for item in items if type(item) is dict and "role" in item)
    return any(type(content) is list and any(map(_is_block, content)) for content in contents)


def _is_block(block: Any) -> bool:
    return type(block) is dict and "type" in block and "value" in block


def _fit(rows: Sequence[Any]) -> Adapter:
    adapter = messages.fit(rows)
    return replace(adapter, cue=Saying("data.cue-blocks", adapter.cue.facts))


LAYOUT = Layout("blocks", _recognise, "sft", _fit)
