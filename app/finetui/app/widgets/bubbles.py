"""Rows of data as a conversation: each message a bubble, what the user says on the left, answers indented."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textual.content import Content

from finetui.core.messages import t
from finetui.core.text import safe_text

_MOST_LINES = 6
_MOST = 2000
_INDENT = 6
_STYLES = {"user": "$secondary", "assistant": "$success", "system": "$warning", "tool": "$accent"}


def bubbles(record: Mapping[str, Any], width: int) -> list[Content]:
    """A canonical record as lines of at most so many cells."""
    lines: list[Content] = []
    for speaker, text in _said(record):
        indent = _INDENT if speaker in ("assistant", "chosen", "rejected", "completion") else 0
        lines += _bubble(speaker, text, max(20, width - _INDENT - 2), indent)
    return lines


def _bubble(speaker: str, text: str, width: int, indent: int) -> Iterator[Content]:
    style = _STYLES.get(speaker, "$secondary")
    pieces = Content(safe_text(text, _MOST).strip()).wrap(width - 2) or [Content("")]
    shown = pieces[:_MOST_LINES]
    blank = " " * indent
    yield Content.assemble(blank, ("╭ ", style), (_name(speaker), f"bold {style}"))
    for piece in shown:
        yield Content.assemble(blank, ("│ ", style), piece)
    if len(pieces) > len(shown):
        yield Content.assemble(
            blank, ("│ ", style), (t("wizard.more-lines", count=len(pieces) - len(shown)), "$text-muted")
        )


def _name(speaker: str) -> str:
    known = ("user", "assistant", "system", "tool", "text", "chosen", "rejected", "completion")
    return t(f"wizard.speaker-{speaker}") if speaker in known else safe_text(speaker, 40)


def _said(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who says what, in the order of the record, whatever kind of record it is."""
    for message in _messages(record.get("messages") or record.get("prompt")):
        yield str(message.get("role", "")), _content(message)
    for part in ("text", "completion", "chosen", "rejected"):
        value = record.get(part)
        if isinstance(value, str):
            yield part, value
        else:
            for message in _messages(value):
                yield part, _content(message)


def _messages(value: object) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return [message for message in value if isinstance(message, Mapping)] if isinstance(value, list) else []


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
    calls = message.get("tool_calls")
    return text + (f"\n{json.dumps(calls, ensure_ascii=False)}" if calls else "")
