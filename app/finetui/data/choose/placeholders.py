"""Placeholders such as `{{name}}` filled as a row is converted, so that every check sees the text as it is trained."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from finetui.data.detection.detect import Detection
from finetui.data.formats import Convert
from finetui.data.problems import Note

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w .-]{0,40}?)\s*\}\}")
_UNTOUCHED = ("tools", "tool_calls", "meta")
"""Keys of a record or message whose values are carried over as they are."""


class Filling:
    """Texts for placeholders, and in how many rows each was put."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        """Text by placeholder."""
        self.rows: Counter[str] = Counter()
        """Rows by the placeholder that was filled in them."""

    def onto(self, detection: Detection) -> Detection:
        """The detection with records filled as they are made; itself where there is nothing to fill."""
        if not self.texts or detection.adapter is None:
            return detection
        return replace(detection, adapter=replace(detection.adapter, convert=self._after(detection.adapter.convert)))

    def unused(self) -> list[str]:
        """The placeholders that no row held."""
        return [name for name in self.texts if not self.rows[name]]

    def _after(self, convert: Convert) -> Convert:
        def filled(row: Any, notes: list[Note]) -> dict[str, Any]:
            met = set[str]()
            record: dict[str, Any] = self._fill(convert(row, notes), met)
            self.rows.update(met)
            return record

        return filled

    def _fill(self, value: Any, met: set[str]) -> Any:
        if type(value) is str:
            return _PLACEHOLDER.sub(lambda found: self._text(found, met), value) if "{{" in value else value
        if type(value) is list:
            return [self._fill(item, met) for item in value]
        if type(value) is dict:
            return {key: item if key in _UNTOUCHED else self._fill(item, met) for key, item in value.items()}
        return value

    def _text(self, found: re.Match[str], met: set[str]) -> str:
        name = found[1]
        if name not in self.texts:
            return found[0]
        met.add(name)
        return self.texts[name]
