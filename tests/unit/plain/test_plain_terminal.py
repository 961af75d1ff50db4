"""`finetui --plain` in a real terminal that knows no codes: every byte, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetui.drafts import newest
from tests.unit.app.support import live, make_run
from tests.unit.app.window import Window, window

pytestmark = pytest.mark.unit


@contextmanager
def asked(*arguments: str, **environment: str) -> Iterator[Window]:
    """A dumb terminal in which home has been said."""
    with window("--plain", *arguments, rows=100, columns=200, **{"TERM": "dumb", **environment}) as shown:
        shown.read_until("[1]:")
        yield shown


def test_no_code_reaches_a_dumb_terminal_and_ctrl_d_ends() -> None:
    with asked() as shown:
        shown.type("\r")
        shown.read_until("Step 1 of 5")
        shown.type("back\r\x04")
        assert shown.end() == 0
    assert b"\x1b" not in shown.bytes
    assert b"\x08" not in shown.bytes


def test_ctrl_c_ends_it_with_130_and_the_draft_is_kept() -> None:
    with asked() as shown:
        shown.type("\r\r")
        shown.read_until("assistant: 0 and one is 1.", "What next")
        shown.type("\x03")
        assert shown.end() == 130
    assert b"The draft is kept" in shown.bytes
    assert newest() is not None


def test_ctrl_c_while_a_run_is_followed_leaves_it_alone_and_leads_back_to_the_menu() -> None:
    run = make_run(Path("home"), "20260101-000001-tiny", 10, **live())
    with asked() as shown:
        shown.type("watch\r\r")
        shown.read_until("step 10 of 100")
        shown.type("\x03")
        shown.read_until("finetui watch")
        shown.type("leave\r")
        assert shown.end() == 0
    assert run.status() == "running"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_draft_outlives_a_hang_up(number: signal.Signals) -> None:
    with asked() as shown:
        shown.type("\r\r")
        shown.read_until("What next")
        os.kill(shown.pid, number)
        assert shown.end() == 128 + number
    assert newest() is not None
    with asked() as shown:
        shown.type("\r")
        shown.read_until("A draft is waiting")


def test_a_draft_outlives_a_closed_terminal() -> None:
    with asked() as shown:
        shown.type("\r\r")
        shown.read_until("What next")
        shown.hang_up()
        assert shown.code() == 128 + signal.SIGHUP
    assert newest() is not None


@pytest.mark.parametrize("lang", ["C", "zh_CN.ISO-8859-1"])
def test_without_utf8_everything_is_ascii_and_a_language_that_cannot_be_written_is_not_spoken(lang: str) -> None:
    with asked(LANG=lang) as shown:
        shown.type("\r\r")
        shown.read_until("What next")
        shown.type("quit\r")
        assert shown.end() == 0
    assert shown.bytes.isascii()


def test_chinese_where_the_locale_has_it() -> None:
    with asked(LANG="zh_CN.UTF-8") as shown:
        shown.type("7\r")
        assert shown.end() == 0
    assert "新建训练".encode() in shown.bytes
