"""How far a job is, on stderr: a line for each stage, redrawn with its percentage where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from finetui.cli.common import Output
from finetui.core.messages import t

_CLEAR = "\r\x1b[K"


class Stages:
    """Shows the `progress` of a job: `stage` is a message of area `models`, `done` of `total` its percentage."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._shown: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._output.live and self._shown is not None:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def __call__(self, facts: Mapping[str, Any]) -> None:
        """Show one report; what would look the same is not drawn again."""
        stage, total = str(facts["stage"]), facts.get("total")
        percent = int(100 * facts["done"] / total) if total else 0
        text = t(f"models.stage-{stage}")
        if not self._output.live:
            if self._shown is None or self._shown[0] != stage:
                self._output.note(text)
        elif self._shown != (stage, percent):
            line = t("models.stage-line", text=text, percent=percent) if total else text
            sys.stderr.write(f"{_CLEAR}{line}")
            sys.stderr.flush()
        self._shown = (stage, percent)
