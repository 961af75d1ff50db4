"""How far something is that takes its time, by a line now and then: nothing is redrawn, nobody is flooded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from finetui.cli.plain.talk import say
from finetui.core.messages import t

_EVERY_S = 10.0


class HowFar:
    """Passes on how far something is: each stage once, and then its share every ten seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0

    def __call__(self, facts: Mapping[str, Any]) -> None:
        """A stage of a job, and how far it is."""
        stage, total = t(f"models.stage-{facts['stage']}"), facts.get("total")
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._last = stage, now
            say(stage)
        elif total and now > self._last + _EVERY_S:
            self._last = now
            say(t("models.stage-line", text=stage, percent=int(100 * facts["done"] / total)))

    def reading(self, done: int, total: int) -> None:
        """Bytes of data that have been read."""
        now = time.monotonic()
        if not self._last:
            self._last = now
        if now > self._last + _EVERY_S:
            self._last = now
            say(t("wizard.reading", percent=int(100 * done / max(1, total))))
