"""The wizard to its end: a real lock and a real run, of a tiny model, by a dozen keys at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from finetui.app.shell import FinetuiApp
from finetui.bundles.verify import verify
from finetui.drafts import newest
from finetui.runs.folder import list_runs
from finetui.runs.following import wait_for_training
from finetui.runs.stopping import stop
from tests.tiny import make_tiny_model
from tests.unit.app.support import play

pytestmark = pytest.mark.worker

KEYS = ("n", "enter", "enter", "enter", "enter", "enter")
MOST = 12


@pytest.mark.parametrize("last", ["enter", "f5"])
def test_from_home_to_a_started_run_on_defaults(
    last: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    monkeypatch.setenv("TERM", "xterm-256color")
    make_tiny_model(home / "models" / "tiny")
    turns = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Pim."}]
    (desk / "chats.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)
    app, titles = FinetuiApp(), list[str]()

    async def look(pilot: Pilot[Any]) -> None:
        titles.append(type(app.screen).__name__)

    play(app, *KEYS, last, look)
    assert len([*KEYS, last]) <= MOST
    assert titles == ["Monitor"]
    (run,) = list_runs()
    assert wait_for_training(run)
    stop(run)
    state = run.read()
    assert state.bundle_name.startswith("chats-")
    assert verify(Path(state.bundle))["ok"]
    assert newest() is None


def test_what_lock_refuses_is_told_and_the_draft_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    make_tiny_model(home / "models" / "tiny")
    turns = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Pim."}]
    spoilt = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": ""}]
    rows = [{"messages": each} for each in [*[turns] * 8, spoilt]]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = play(FinetuiApp(), "n", *"chats.jsonl", *KEYS[1:], "enter")
    assert "Train without them" in shown
    assert list_runs() == []
    assert newest() is not None
