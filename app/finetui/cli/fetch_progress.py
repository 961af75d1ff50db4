"""How far a fetch is, on stderr: one line that is redrawn on a terminal, else a line now and then; none for --json."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from finetui.cli.common import Output
from finetui.cli.stages import Stages
from finetui.core.messages import t
from finetui.models.fetch.http import Pause
from finetui.models.fetch.space import in_words

_CLEAR = "\r\x1b[K"
_WINDOW_S = 10.0
_DRAWN_EVERY_S = 0.2
_WRITTEN_EVERY_S = 30.0
_WRITTEN_EVERY_PERCENT = 10


class FetchProgress:
    """Shows the progress of a fetch: bytes, the rate of the last ten seconds, the time that is left."""

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._stages = Stages(output)
        self._seen: deque[tuple[float, int]] = deque()
        self._shown_at = -_WRITTEN_EVERY_S
        self._shown_percent = -_WRITTEN_EVERY_PERCENT
        self._paused: Pause | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stages.__exit__(kind, error, trace)
        self._clear()

    def __call__(self, facts: Mapping[str, Any]) -> None:
        """Show one report."""
        if self._output.json:
            return
        if facts["stage"] == "fetch-wait":
            self._clear()
            code = "fetch.waiting" if facts["pid"] else "fetch.waiting-somebody"
            self._output.note(t(code, pid=facts["pid"]))
        elif facts["stage"] != "fetch":
            self._stages(facts)
        else:
            self._transfer(facts["done"], facts["total"], facts["pause"])

    def _transfer(self, done: int, total: int, pause: Pause | None) -> None:
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        percent = 100 * done // total if total else 0
        is_over = bool(total) and done >= total
        if self._output.live:
            if now - self._shown_at < _DRAWN_EVERY_S and not is_over:
                return
            sys.stderr.write(f"{_CLEAR}{self._line(done, total, percent, pause)}")
            sys.stderr.flush()
        else:
            later = now - self._shown_at >= _WRITTEN_EVERY_S or (pause is not None and pause != self._paused)
            self._paused = pause
            if not later and percent - self._shown_percent < _WRITTEN_EVERY_PERCENT:
                return
            self._output.note(self._line(done, total, percent, pause))
        self._shown_at, self._shown_percent = now, percent

    def _line(self, done: int, total: int, percent: int, pause: Pause | None) -> str:
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        rate = (after - before) / (last - first) if last > first else 0.0
        facts = {"done": in_words(done), "total": in_words(total), "percent": percent, "rate": in_words(int(rate))}
        if pause is not None:
            return t("fetch.line-pause", **facts, host=pause.host, words=pause.words, wait=round(pause.seconds))
        if not total:
            return t("fetch.line-open", **facts)
        if rate <= 0:
            return t("fetch.line-begin", **facts)
        return t("fetch.line", **facts, left=_duration((total - done) / rate))

    def _clear(self) -> None:
        if self._output.live and self._seen:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
