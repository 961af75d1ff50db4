"""The table of layouts, strongest cue first; one module for each that is converted."""

from __future__ import annotations

from finetui.data.formats import (
    alpaca,
    blocks,
    dolly,
    feedback,
    flat_chat,
    messages,
    oasst,
    pairs,
    preference,
    prompt_completion,
    prompts,
    query_response,
    seed_tasks,
    segments,
    sharegpt,
    stepwise,
    table,
    text,
    tokens,
)
from finetui.data.formats.layout import Adapter, Convert, Layout

TABLE: tuple[Layout, ...] = (
    tokens.LAYOUT,
    segments.LAYOUT,
    stepwise.LAYOUT,
    preference.LAYOUT,
    feedback.LAYOUT,
    blocks.LAYOUT,
    prompts.UNANSWERED,
    messages.LAYOUT,
    sharegpt.LAYOUT,
    pairs.LAYOUT,
    flat_chat.LAYOUT,
    dolly.LAYOUT,
    seed_tasks.LAYOUT,
    oasst.LAYOUT,
    alpaca.LAYOUT,
    query_response.LAYOUT,
    prompt_completion.LAYOUT,
    text.LAYOUT,
    prompts.LAYOUT,
    table.NO_TRAINING,
    table.TABLE,
)
CONVERTED: dict[str, Layout] = {layout.id: layout for layout in TABLE if layout.fit}
"""The layouts that can be converted, by id."""

__all__ = ["CONVERTED", "TABLE", "Adapter", "Convert", "Layout"]
