"""The table of layouts, strongest cue first; one module for each that is converted."""

from __future__ import annotations

from finetui.data.formats import alpaca, messages, sharegpt
from finetui.data.formats.layout import Adapter, Convert, Layout
from finetui.data.formats.sight import AFTER_COLUMNS, BEFORE_CHAT, BEFORE_COLUMNS

TABLE: tuple[Layout, ...] = (
    *BEFORE_CHAT,
    messages.LAYOUT,
    sharegpt.LAYOUT,
    *BEFORE_COLUMNS,
    alpaca.LAYOUT,
    *AFTER_COLUMNS,
)
CONVERTED: dict[str, Layout] = {layout.id: layout for layout in TABLE if layout.fit}
"""The layouts that can be converted, by id."""

__all__ = ["CONVERTED", "TABLE", "Adapter", "Convert", "Layout"]
