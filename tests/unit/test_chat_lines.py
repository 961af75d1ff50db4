"""The line mode of chat at a keyboard: when Ctrl+C counts."""

from __future__ import annotations

import os
import pty
import signal
import sys

import pytest

from finetui.cli.chat_lines import lines_typed

pytestmark = pytest.mark.unit


def test_ctrl_c_between_an_answer_and_the_next_prompt_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"Hello\nAnd?\n\x04")
    before = signal.getsignal(signal.SIGINT)
    with os.fdopen(theirs) as keyboard:
        monkeypatch.setattr(sys, "stdin", keyboard)
        typed = []
        for line in lines_typed(edited=False):
            typed.append(line)
            os.kill(os.getpid(), signal.SIGINT)
    os.close(ours)
    assert typed == ["Hello", "And?"]
    assert signal.getsignal(signal.SIGINT) is before
