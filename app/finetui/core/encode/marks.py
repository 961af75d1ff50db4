"""Marks around the texts of a conversation, and where those texts lie in what a template makes of it.

Every text is rendered between two private-use characters that occur nowhere in the conversation. Taken out of the
rendering they must leave the true one; then they tell where each text begins and ends, whatever the template does to it
(stripping, escaping, moving). Marks stand inside a text's outer whitespace, so that stripping cannot touch them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetui.core.encode.jinja import Message

_PRIVATE = re.compile("[\U000f0000-\U0010fffd]")
_PRIVATE_RANGE = range(0xF0000, 0x10FFFE)
_THINK_TAG = re.compile(r"(</?think>)")
_OPENING_TAG, _CLOSING_TAG = re.compile(r"<\w+>"), re.compile(r"</\w+>")
GENERATED = "generated"


@dataclass(frozen=True)
class Text:
    """Where one text of the conversation lies in the rendering."""

    start: int
    end: int
    """Character offsets in the rendering without marks."""
    message: int
    """Which message it is of; -1 for what the template itself marks as generated."""
    part: str
    """`content`, `thinking`, `tool_calls`, or `generated`."""


@dataclass(frozen=True)
class Parsed:
    """A marked rendering, read."""

    text: str
    """The rendering without the marks."""
    texts: tuple[Text, ...]
    """The texts that stand in it whole, by their start; each once, where it stands first."""
    lost: frozenset[tuple[int, str]]
    """Message and part of the texts that do not stand in it whole."""
    broken: frozenset[int]
    """Messages of which a text stands in it with one end only."""


class Marker:
    """Puts marks into one conversation and finds them in its rendering."""

    def __init__(self, messages: Sequence[Message], *also_used: str, split_thinking: bool) -> None:
        used = {c for text in (json.dumps(messages, ensure_ascii=False), *also_used) for c in _PRIVATE.findall(text)}
        self._free = (character for character in map(chr, _PRIVATE_RANGE) if character not in used)
        self._split_thinking = split_thinking
        self._owners: list[tuple[int, str]] = []
        self._known: dict[str, tuple[int, bool]] = {}
        self.generation = self._pair(-1, GENERATED)

    def mark(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The canonical messages with marks around their texts."""
        return [self._mark(index, message) for index, message in enumerate(messages)]

    def parse(self, marked: str) -> Parsed:
        """Take the marks out of a rendering, and tell what lay between them."""
        pieces: list[str] = []
        open_at: dict[int, int] = {}
        broken: set[int] = set()
        found: dict[int, Text] = {}
        generated: list[Text] = []
        position = 0
        for piece, character in _split(marked):
            pieces.append(piece)
            position += len(piece)
            known = self._known.get(character)
            if known is None:
                pieces.append(character)
                position += len(character)
                continue
            owner, opens = known
            if opens:
                open_at[owner] = position
            elif owner in open_at:
                text = Text(open_at.pop(owner), position, *self._owners[owner])
                if text.part == GENERATED:
                    generated.append(text)
                else:
                    found.setdefault(owner, text)
            else:
                broken.add(self._owners[owner][0])
        broken.update(self._owners[owner][0] for owner in open_at)
        texts = sorted([*found.values(), *generated], key=lambda text: (text.start, -text.end))
        lost = frozenset(owner for index, owner in enumerate(self._owners) if index and index not in found)
        return Parsed("".join(pieces), tuple(texts), lost, frozenset(broken))

    def _pair(self, message: int, part: str) -> tuple[str, str]:
        opening, closing = next(self._free), next(self._free)
        self._known[opening] = (len(self._owners), True)
        self._known[closing] = (len(self._owners), False)
        self._owners.append((message, part))
        return opening, closing

    def _wrap(self, text: str, message: int, part: str, first: int = 0, last: int | None = None) -> str:
        """The text with marks just inside the outer whitespace of `text[first:last]`; as it is where that is blank."""
        inner = text[first:last]
        core = inner.strip()
        if not core:
            return text
        start = first + len(inner) - len(inner.lstrip())
        end = start + len(core)
        opening, closing = self._pair(message, part)
        return f"{text[:start]}{opening}{core}{closing}{text[end:]}"

    def _wrap_inside_tags(self, text: str, index: int) -> str:
        """Templates ask whether a text is one `<tool_response>…</tool_response>`: tags around it all stay outermost."""
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        if opening := _OPENING_TAG.match(text, first):
            first = opening.end()
        closing = text.rfind("</", first, last)
        if closing >= 0 and _CLOSING_TAG.fullmatch(text, closing, last):
            last = closing
        return self._wrap(text, index, "content", first, last)

    def _mark(self, index: int, message: Message) -> dict[str, Any]:
        marked = dict(message)
        if message["role"] != "assistant":
            if isinstance(message.get("content"), str):
                marked["content"] = self._wrap_inside_tags(message["content"], index)
            return marked
        if message.get("thinking"):
            marked["thinking"] = self._wrap(message["thinking"], index, "thinking")
        if message.get("content"):
            marked["content"] = self._content(message["content"], index)
        if message.get("tool_calls"):
            marked["tool_calls"] = [self._call(call, index) for call in message["tool_calls"]]
        return marked

    def _content(self, content: str, index: int) -> str:
        if not self._split_thinking or "</think>" not in content:
            return self._wrap(content, index, "content")
        part, pieces = "content", []
        for piece in _THINK_TAG.split(content):
            if _THINK_TAG.fullmatch(piece):
                part = "thinking" if piece == "<think>" else "content"
                pieces.append(piece)
            else:
                pieces.append(self._wrap(piece, index, part))
        return "".join(pieces)

    def _call(self, call: Mapping[str, Any], index: int) -> dict[str, Any]:
        function = dict(call.get("function") or {})
        for key in ("name", "arguments"):
            if key in function:
                function[key] = self._values(function[key], index)
        return {**call, "function": function}

    def _values(self, value: Any, index: int) -> Any:
        if isinstance(value, str):
            return self._wrap(value, index, "tool_calls")
        if isinstance(value, Mapping):
            return {key: self._values(item, index) for key, item in value.items()}
        if isinstance(value, list):
            return [self._values(item, index) for item in value]
        return value


def _split(marked: str) -> Iterator[tuple[str, str]]:
    """The text before each private-use character, with that character; at last what is left, with nothing."""
    position = 0
    for match in _PRIVATE.finditer(marked):
        yield marked[position : match.start()], match[0]
        position = match.end()
    yield marked[position:], ""
