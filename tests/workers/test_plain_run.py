"""`finetui --plain` from its first question to a finished run and a chat answer, by a pipe and by a dumb terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetui.drafts import newest
from finetui.runs.folder import list_runs
from finetui.runs.outcome import result
from tests.parrot import make_parrot
from tests.unit.app.window import window

pytestmark = pytest.mark.worker

WAY = ("", "", "", "parrot", "", "", "max_steps=2", "learning_rate=1e-6", "", "", "pim", "", "Hello", "/quit", "leave")
"""Home, data, its card, model, its facts, recipe, two settings, review, launch, the name, chat, home."""


@pytest.fixture(autouse=True)
def desk(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with chats, and a model that says OK."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make_parrot(home / "models" / "parrot", "OK")
    turns = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Pim."}]
    (folder / "chats.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)


def finished() -> None:
    (run,) = list_runs()
    assert result(run)["status"] == "finished"
    assert run.read().bundle_name == "pim"
    assert newest() is None


def test_a_script_of_answers_trains_and_chats() -> None:
    command = [sys.executable, "-m", "finetui", "--plain"]
    done = subprocess.run(command, input="\n".join(WAY) + "\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    finished()
    assert "step 2 of 2 · loss " in done.stdout
    assert "tuned: OK\n" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_a_dumb_terminal_does_too() -> None:
    with window("--plain", TERM="dumb", rows=200, columns=200) as shown:
        for line in WAY:
            shown.type(f"{line}\r")
        assert shown.end() == 0
    finished()
    assert b"tuned: OK" in shown.bytes
    assert b"\x1b" not in shown.bytes
