"""How much of the data was read, on a line of stderr that is redrawn where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finetui.cli.common import Output
from finetui.core.messages import t

if TYPE_CHECKING:
    from finetui.data.reader import Progress

_CLEAR = "\r\x1b[K"
_QUIET_SECONDS = 1.0
"""What is done sooner shows nothing."""


@contextmanager
def reading_shown(output: Output) -> Iterator[Progress | None]:
    """What to call with the bytes read and their total; None where nothing would be seen of it."""
    if not output.live:
        yield None
        return
    began, drawn = time.monotonic(), -1

    def show(done: int, total: int) -> None:
        nonlocal drawn
        percent = 100 * done // max(total, 1)
        if percent != drawn and time.monotonic() - began > _QUIET_SECONDS:
            drawn = percent
            sys.stderr.write(_CLEAR + t("reading.progress", percent=percent, size=total // 10**6))
            sys.stderr.flush()

    try:
        yield show
    finally:
        if drawn >= 0:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
