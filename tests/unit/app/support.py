"""Plays the app without a terminal: keys in, the screen as text out, held against a golden text.

    def test_…(home):
        shown = play(FinetuiApp(first=…), "down", "enter", size=NARROW)
        assert_golden(shown, "monitor-80x24-en")

`FINETUI_GOLDEN=write pytest …` writes the golden texts anew: read the difference before it is committed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from finetui.app.shell import FinetuiApp
from finetui.runs.folder import RunFolder
from finetui.runs.processes import Identity
from finetui.runs.state import RunState

NARROW, WIDE = (80, 24), (120, 40)
SIZES = {"80x24": NARROW, "120x40": WIDE}
GOLDEN = Path(__file__).parent / "golden"

Act = str | Callable[[Pilot[Any]], Awaitable[object]]
"""A key by Textual's name, or something else to be done with the pilot."""


def play(app: FinetuiApp, *acts: Act, size: tuple[int, int] = NARROW) -> str:
    """What the app shows after these acts, each of them followed by all that it sets off."""
    return asyncio.run(_play(app, acts, size))


async def _play(app: FinetuiApp, acts: Iterable[Act], size: tuple[int, int]) -> str:
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        for act in acts:
            await (pilot.press(act) if isinstance(act, str) else act(pilot))
            await settled(pilot)
        return picture(app)


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until nothing is worked on whose end the app awaits, and until what that has changed is drawn."""
    await until(pilot, lambda: not pilot.app.working, "the end of the work")  # type: ignore[attr-defined]
    for _ in range(3):  # a message, the layout that it asks for, the picture of that
        await pilot.pause()


async def until(pilot: Pilot[Any], true: Callable[[], object], what: str) -> None:
    """Wait until `true()` holds; fail, saying what never came, after a time that only a broken app needs."""
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}\n{picture(pilot.app)}"
        await pilot.pause(0.02)


def picture(app: Any) -> str:
    """The screen as text, as it would reach the terminal: through every filter, without trailing blanks."""
    filters = app.get_line_filters()
    lines = []
    for strip in app.screen._compositor.render_strips():
        for each in filters:
            strip = strip.apply_filter(each, app.screen.background_colors[1])
        lines.append(strip.text.rstrip())
    return "\n".join(lines).rstrip() + "\n"


def assert_golden(shown: str, name: str) -> None:
    """Hold a screen against its golden text."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("FINETUI_GOLDEN") == "write":
        path.write_text(shown, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == shown


# ---- runs to be shown


def make_run(home: Path, name: str, steps: int = 0, *, total: int = 100, **changes: object) -> RunFolder:
    """A run of so many steps, ended unless `changes` of its state say otherwise; its loss falls from 2 to about 0.5."""
    run = RunFolder(home / "runs" / name)
    run.path.mkdir(parents=True)
    state = RunState(
        run=name,
        bundle=str(home / "bundles" / "tiny.bundle"),
        bundle_id="0" * 64,
        bundle_name="tiny",
        model="/model",
        python="python3",
        world_size=1,
        steps_total=total,
        started=1_700_000_000.0,
        status="finished",
    )
    state = replace(state, **changes)  # type: ignore[arg-type]
    run.write(state)
    if state.status == "finished":
        run.output.mkdir()
        (run.output / "adapter_model.safetensors").write_bytes(b"weights")
        digest = hashlib.sha256(b"weights").hexdigest()
        run.done.write_text(json.dumps({"outputs": {"adapter_model.safetensors": digest}}))
    if steps:
        write_events(run, [started(total), *(step(number, total) for number in range(1, steps + 1))])
    return run


def live() -> dict[str, Any]:
    """Changes of the state of a run that lives, for as long as this process does."""
    me = Identity.of(os.getpid())
    return {"status": "running", "host": me.host, "pid": me.pid, "pid_start": me.pid_start, "boot_id": me.boot_id}


def write_events(run: RunFolder, events: Iterable[dict[str, Any]]) -> None:
    """Add events to those of the trainer."""
    with run.events.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in events)


def event(name: str, at: float, number: int | None = None, **facts: object) -> dict[str, Any]:
    """One line of an event file; `at` counts from the start of the run."""
    return {"v": 1, "event": name, "time": 1_700_000_000.0 + at, "step": number, **facts}


def started(total: int) -> dict[str, Any]:
    """The trainer's first word."""
    facts = {"world_size": 1, "python": "3.11", "packages": {}, "device": "cpu", "steps": total, "rows": 10}
    return event("started", 1.0, **facts)


def step(number: int, total: int, **facts: object) -> dict[str, Any]:
    """A step of two seconds."""
    usual = {
        "loss": 0.5 + 1.5 * math.exp(-4 * number / total) + 0.05 * math.sin(number),
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
        "trained_tokens": 100,
        "tokens": 200,
        "tokens_per_second": 50.0,
        "batch_digest": "00",
        "epoch": number / total,
        "memory_bytes": 2**30,
    }
    return event("step", 2.0 + 2 * number, number, **{**usual, **facts})
