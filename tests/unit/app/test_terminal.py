"""The app in a real terminal: every byte that it writes, and how it leaves."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.tiny import make_tiny_model
from tests.unit.app.support import live, make_run
from tests.unit.app.window import window

pytestmark = pytest.mark.unit

_ALTERNATE, _MAIN = b"\x1b[?1049h", b"\x1b[?1049l"
_COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_hang_up_restores_the_terminal_and_leaves_the_run_alone(home: Path, number: signal.Signals) -> None:
    run = make_run(home, "20260101-000001-tiny", 10, **live())
    with window() as shown:
        shown.read_until("000001-tiny")
        shown.type(b"\r")
        shown.read_until("10 of 100")
        os.kill(shown.pid, number)
        assert shown.end() == 128 + number
    assert shown.bytes.rfind(_MAIN) > shown.bytes.rfind(_ALTERNATE)
    assert run.status() == "running"


def test_a_terminal_that_is_closed_ends_the_app(home: Path) -> None:
    make_run(home, "20260101-000001-tiny", 10, **live())
    with window() as shown:
        shown.read_until("000001-tiny")
        shown.hang_up()
        assert shown.code() == 128 + signal.SIGHUP


def test_no_color_and_no_mouse_are_kept_and_the_locale_too(home: Path) -> None:
    make_run(home, "20260101-000001-tiny", 10)
    with window("--no-mouse", NO_COLOR="1", LANG="C") as shown:
        shown.read_until("000001-tiny")
        shown.type(b"\r")
        shown.read_until("10 of 100")
        shown.type(b"q")
        assert shown.end() == 0
    assert not _COLOUR.search(shown.bytes)
    assert b"[?1000h" not in shown.bytes
    assert shown.bytes.isascii()


def test_a_window_is_as_large_as_it_is_whatever_was_exported(home: Path) -> None:
    with window(COLUMNS="50", LINES="9") as shown:
        shown.read_until("No run yet")
        assert shown.text.splitlines()[23].endswith("F10 quit")
        shown.resize(12, 40)
        shown.read_until("No run yet", "F1 help")
        assert shown.text.splitlines()[11].startswith(" n new")


def test_commands_are_copied_through_the_terminal_and_written_to_a_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_model(home / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
    turns = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Pim."}]
    Path("chats.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)
    with window() as shown:
        for keys, words in (
            ("", "No run yet"),
            ("n", "chats.jsonl"),
            ("\r", "8 usable"),
            ("\r", "LlamaForCausalLM"),
            ("\r", "longest"),
            ("\r", "finetui run"),
            ("c", "Copied"),
            ("w", "Written to"),
        ):
            shown.type(keys)
            shown.read_until(words)
        shown.type("\x1b[21~")
        assert shown.end() == 0
    (copied,) = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", shown.bytes)
    (script,) = home.glob("bundles/*.sh")
    commands = base64.b64decode(copied).decode()
    assert commands.startswith("finetui lock --model tiny --data chats.jsonl")
    assert script.read_text().endswith(commands)


def test_a_dumb_terminal_is_refused_in_words(home: Path) -> None:
    with window(TERM="dumb") as shown:
        assert shown.end() == 5
    assert b"finetui --plain" in shown.bytes
    assert _ALTERNATE not in shown.bytes


def test_without_a_terminal_stdout_gets_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    from finetui.cli.main import run

    assert run([]) == 0
    assert "finetui COMMAND" in capfd.readouterr().out
