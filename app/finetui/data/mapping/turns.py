"""Mapped lists of messages, whatever the keys of who speaks and what is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetui.data.formats.chat import Message, full_message, plain_message
from finetui.data.mapping.parts import Part
from finetui.data.mapping.paths import ABSENT, Absent, ColumnPath, opened
from finetui.data.problems import Note, RowProblem

_KEY = {key: ColumnPath(key, (key,)) for key in ("role", "from", "content", "value")}


class Turns:
    """A mapped list of messages: who speaks and what is said in each of its items."""

    def __init__(self, parts: Mapping[str, Part], tags: Mapping[str, str]) -> None:
        listed = parts.get("messages") or parts["role"]
        at = listed.list_at
        steps = listed.paths[0].steps
        self.path = ColumnPath(listed.text, steps if at is None else steps[:at])
        self.role, self.content = (self._inside(parts.get(name)) for name in ("role", "content"))
        self.tags = tags

    @staticmethod
    def _inside(part: Part | None) -> ColumnPath | None:
        """The rest of a path, within one item."""
        if part is None:
            return None
        at = part.list_at
        return part.paths[0] if at is None else ColumnPath(part.text, part.paths[0].steps[at + 1 :])

    def messages(self, row: Any, notes: list[Note]) -> list[Message]:
        """The messages of a row.

        Raises RowProblem where one is to be set aside.
        """
        try:
            items = self.path.find(row)
        except Absent:
            raise RowProblem("missing-key", self.path.text) from None
        return self.of(items, self.path.text, notes)

    def of(self, value: Any, where: str, notes: list[Note]) -> list[Message]:
        """A list of items, or one, as messages; plain texts are question and answer by turns.

        Raises RowProblem where one is to be set aside.
        """
        items = opened(value, where)
        if type(items) is dict:
            return [self._message(items, where, notes)]
        if items and all(type(item) is str for item in items):
            return [
                plain_message("assistant" if number % 2 else "user", item, f"{where}[{number}]")
                for number, item in enumerate(items)
            ]
        return [self._message(item, f"{where}[{number}]", notes) for number, item in enumerate(items)]

    def _message(self, item: Any, where: str, notes: list[Note]) -> Message:
        if type(item) is not dict:
            return full_message(item, "role", "content", where, notes)
        speaker = self.role or _KEY["from" if "role" not in item and "from" in item else "role"]
        said = self.content or _KEY["value" if "content" not in item and "value" in item else "content"]
        plain = {key: value for key, value in item.items() if key not in ("role", "content")}
        plain["role"] = self._canonical(_found(speaker, item))
        if (content := _found(said, item)) is not ABSENT:
            plain["content"] = content
        return full_message(plain, "role", "content", where, notes)

    def _canonical(self, name: Any) -> Any:
        if name is ABSENT:
            return None
        return self.tags.get(name, name) if type(name) is str else name


def _found(path: ColumnPath, item: Any) -> Any:
    try:
        return path.find(item)
    except Absent:
        return ABSENT
