"""The worker's side of the wire that `jobs` holds: JSON lines in on stdin, `progress | result | error` lines out.

Standard library only. Whatever else a library prints goes to stderr, so that stdout holds nothing but the wire.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from finetui.core.errors import FinetuiError

_wire: IO[str] | None = None


def open_wire() -> None:
    """Keep stdout for the wire alone; prints go to stderr from now on."""
    global _wire
    if _wire is None:
        _wire = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)


def requests() -> Iterator[dict[str, Any]]:
    """The requests as they come, until the end of input."""
    for line in sys.stdin:
        if line.strip():
            yield json.loads(line)


def progress(**facts: object) -> None:
    """Tell how far the work is: `stage`, and `done` of `total` where it can be counted."""
    _send({"type": "progress", **facts})


def serve(handle: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Answer every request with what `handle` returns, or with the problems that it raised; then end."""
    open_wire()
    for request in requests():
        answer(handle, request)


def answer(handle: Callable[[dict[str, Any]], Mapping[str, Any]], request: dict[str, Any]) -> None:
    """Answer one request. Unforeseen exceptions end the worker; `jobs` then shows its last words."""
    try:
        _send({"type": "result", "result": dict(handle(request))})
    except FinetuiError as error:
        problems = [problem.to_wire() for problem in error.problems]
        _send({"type": "error", "problems": problems, "exit_code": error.exit_code})


def _send(message: Mapping[str, object]) -> None:
    assert _wire is not None, "open_wire comes first"
    _wire.write(json.dumps(message, ensure_ascii=True) + "\n")
    _wire.flush()
