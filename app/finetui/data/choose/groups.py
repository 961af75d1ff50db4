"""What keeps rows together when they are split: the value of a field, or the tree that a conversation comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.knobs import nearest
from finetui.core.text import one_line

_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")
_TREE = "message_tree_id"
_NAMED = 12
_ABSENT = object()


class Grouping:
    """Reads the group of one row after another; without a path, conversations of one oasst tree belong together."""

    def __init__(self, path: str) -> None:
        self._path = path or _TREE
        self._asked = bool(path)
        self._steps = _STEP.findall(self._path)
        self._names: dict[str, None] = {}
        self.found = self.missed = 0

    def of(self, record: Mapping[str, Any]) -> Any:
        """The group of a record, None where it has none and stands for itself."""
        meta = record.get("meta") or {}
        value = meta.get(self._path, _ABSENT)
        if value is _ABSENT and self._asked:
            value = self._follow(record)
            if value is _ABSENT:
                value = self._follow(meta)
        if value is _ABSENT or value is None:
            self.missed += 1
            if self._asked and len(self._names) < _NAMED:
                self._names |= dict.fromkeys([*(key for key in record if key != "meta"), *meta])
            return None
        self.found += 1
        return value

    def judge(self) -> None:
        """Raise FinetuiError (exit 2) where a field was asked for that no row has."""
        if self._asked and not self.found:
            names = [one_line(name, 40) for name in self._names][:_NAMED]
            near = nearest(self._path.rpartition(".")[2], names)
            facts = {"field": self._path, "names": ", ".join(names) or "–", "near": near or "–"}
            raise FinetuiError(Problem("choose.no-such-field", facts), USAGE)

    def _follow(self, value: Any) -> Any:
        for step in self._steps:
            if step.startswith("["):
                place = int(step[1:-1])
                value = value[place] if isinstance(value, list) and place < len(value) else _ABSENT
            else:
                value = value.get(step, _ABSENT) if isinstance(value, dict) else _ABSENT
        return value
