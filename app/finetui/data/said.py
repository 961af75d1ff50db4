"""Who says what in a canonical record, whatever kind of record it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetui.core.messages import t
from finetui.core.text import safe_text

_SPEAKERS = ("user", "assistant", "system", "tool", "text", "chosen", "rejected", "completion")


def said(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Speaker and words, in the order of the record; both of them foreign text."""
    for message in _messages(record.get("messages") or record.get("prompt")):
        yield str(message.get("role", "")), _content(message)
    for part in ("text", "completion", "chosen", "rejected"):
        value = record.get(part)
        if isinstance(value, str):
            yield part, value
        else:
            for message in _messages(value):
                yield part, _content(message)


def speaker_name(speaker: str) -> str:
    """What a speaker is called, harmless for a terminal."""
    return t(f"wizard.speaker-{speaker}") if speaker in _SPEAKERS else safe_text(speaker, 40)


def _messages(value: object) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return [message for message in value if isinstance(message, Mapping)] if isinstance(value, list) else []


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
    calls = message.get("tool_calls")
    return text + (f"\n{json.dumps(calls, ensure_ascii=False)}" if calls else "")
