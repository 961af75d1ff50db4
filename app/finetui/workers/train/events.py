"""The event writer: one JSON object a line, each line written whole, by the first process alone."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = 1


class Events:
    """Appends events to a file; with no path it stays silent, as every process but the first does."""

    def __init__(self, path: Path | None) -> None:
        self._file: int | None = None
        self._start = b""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            if (size := os.fstat(self._file).st_size) and os.pread(self._file, 1, size - 1) != b"\n":
                self._start = b"\n"  # a process was killed within its last line

    def write(self, event: str, step: int | None = None, **facts: Any) -> None:
        """Append one event; numbers that are not finite become null, since JSON has none.

        Raises OSError where it cannot be written.
        """
        if self._file is None:
            return
        line = {"v": VERSION, "event": event, "time": time.time(), "step": step, **_finite(facts)}
        text = self._start + json.dumps(line, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        self._start = b"\n"  # a line that the disk could not take whole is ended before the next one
        written = os.write(self._file, text)
        if written < len(text):
            raise OSError(errno.ENOSPC, "an event could not be written whole")
        self._start = b""


def _finite(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in facts.items()
    }
