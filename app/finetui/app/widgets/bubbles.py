"""Rows of data as a conversation: each message a bubble, what the user says on the left, answers indented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textual.content import Content

from finetui.app.themes import MUTED
from finetui.core.messages import t
from finetui.core.text import safe_text
from finetui.data.said import said, speaker_name

_MOST_LINES = 6
_MOST = 2000
_INDENT = 6
_STYLES = {"user": "$secondary", "assistant": "$success", "system": "$warning", "tool": "$accent"}


def bubbles(record: Mapping[str, Any], width: int) -> list[Content]:
    """A canonical record as lines of at most so many cells."""
    lines: list[Content] = []
    for speaker, text in said(record):
        indent = _INDENT if speaker in ("assistant", "chosen", "rejected", "completion") else 0
        lines += _bubble(speaker, text, max(20, width - _INDENT - 2), indent)
    return lines


def _bubble(speaker: str, text: str, width: int, indent: int) -> Iterator[Content]:
    style = _STYLES.get(speaker, "$secondary")
    pieces = Content(safe_text(text, _MOST).strip()).wrap(width - 2) or [Content("")]
    shown = pieces[:_MOST_LINES]
    blank = " " * indent
    yield Content.assemble(blank, ("╭ ", style), (speaker_name(speaker), f"bold {style}"))
    for piece in shown:
        yield Content.assemble(blank, ("│ ", style), piece)
    if len(pieces) > len(shown):
        yield Content.assemble(blank, ("│ ", style), (t("wizard.more-lines", count=len(pieces) - len(shown)), MUTED))
