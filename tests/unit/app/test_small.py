"""A window that is pulled small and large again: every screen keeps what it is for, and stands as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from finetui.app.shell import FinetuiApp
from tests.unit.app.support import NARROW, assert_golden, make_run, picture, play, settled
from tests.unit.app.test_wizard import STEPS, desk  # noqa: F401 (a fixture)

pytestmark = pytest.mark.unit

LOW = (40, 12)
RUNS = {
    "home": (),
    "monitor": ("enter",),
    "checkpoints": ("enter", "2"),
    "log": ("enter", "3"),
    "overlay": ("enter", "o"),
    "help": ("f1",),
    "palette": ("f2",),
    "chat": ("c",),
}
WIZARD = {f"wizard-{name}": keys for name, keys in STEPS.items()}
MAIN = {
    "home": "20260101-000001-tiny",
    "monitor": "\u2809",
    "checkpoints": "2 checkpoints",
    "log": "3 log",
    "overlay": "20260101-000001-tiny",
    "help": "Help",
    "palette": "New training",
    "chat": "message",
    "wizard-data": "chats.jsonl",
    "wizard-model": "tiny",
    "wizard-recipe": "lora-3090",
    "wizard-review": "model",
    "wizard-launch": "chats-lora-3090.bundle",
}


def resized(size: tuple[int, int], taken: list[str]) -> Any:
    """Pull the window to this size, and keep what it shows."""

    async def pull(pilot: Pilot[Any]) -> None:
        await pilot.resize_terminal(*size)
        await settled(pilot)
        taken.append(picture(pilot.app))

    return pull


@pytest.mark.parametrize("name", [*RUNS, *WIZARD])
def test_a_screen_that_was_pulled_small_keeps_what_it_is_for_and_stands_as_before(
    name: str,
    desk: Path,  # noqa: F811
) -> None:
    if name in RUNS:
        for number, run in enumerate(("tiny", "other"), 1):
            make_run(Path("home").absolute(), f"20260101-00000{number}-{run}", 20, status="stopped")
    taken: list[str] = []
    keys = (*(RUNS.get(name) or WIZARD.get(name, ())), resized(NARROW, taken), resized(LOW, taken))
    play(FinetuiApp(), *keys, resized(NARROW, taken))
    before, low, after = taken
    assert after == before
    assert all(len(line) <= LOW[0] for line in low.splitlines())
    assert MAIN[name] in low, low
    if name == "home" or name in WIZARD:
        assert_golden(low, f"{name}-40x12-en")
