"""Plays `finetui --plain` with lines, in this process."""

from __future__ import annotations

import io
import re

import pytest

from finetui.cli.main import run
from finetui.core.messages import language

_DRAWN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2500-\u257f\u2800-\u28ff]")
"""Codes, boxes and braille: nothing that a screen reader could say."""


class Pipe(io.StringIO):
    """Lines that are there from the first on."""


def play(monkeypatch: pytest.MonkeyPatch, *lines: str, arguments: tuple[str, ...] = ()) -> tuple[str, int]:
    """What is said when these lines are typed, and the exit code."""
    said = io.StringIO()
    with monkeypatch.context() as streams:
        streams.setattr("sys.stdin", Pipe("".join(f"{line}\n" for line in lines)))
        streams.setattr("sys.stdout", said)
        code = run(["--plain", *arguments])
    shown = said.getvalue()
    assert not _DRAWN.search(shown), _DRAWN.findall(shown)
    assert language() in ("en", "zh")
    return shown, code
