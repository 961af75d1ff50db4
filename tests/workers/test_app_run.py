"""The app over the real trainer: a run is watched, stopped with a checkpoint, and goes on to its end."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from finetui.app.merges import Merge
from finetui.app.registry import make
from finetui.app.shell import FinetuiApp
from finetui.cli.main import run as command
from finetui.core import events
from finetui.core.errors import FinetuiError
from finetui.runs.launch import start
from finetui.runs.outcome import result
from tests.unit.app.support import picture, play, until
from tests.unit.app.test_monitor import seen
from tests.unit.runs.support import has_step, wait_until
from tests.workers.test_merging import models, trained  # noqa: F401 (fixtures)
from tests.workers.test_merging import run as ready  # noqa: F401 (a fixture)
from tests.workers.test_runs import _leave_nothing_running, make_bundle  # noqa: F401 (fixtures)

pytestmark = pytest.mark.worker


def test_a_run_is_stopped_and_resumed_from_the_monitor(make_bundle):  # noqa: F811
    run = start(make_bundle("num_train_epochs=30", "save_steps=5"))
    wait_until(lambda: has_step(run, 7), "the seventh step")
    app = FinetuiApp(first=make("monitor", run.path))

    shown = play(
        app,
        *(seen(lambda it: it.is_live), "s", "enter", seen(lambda it: it.status == "stopped")),
        *("u", "enter", seen(lambda it: it.is_live), seen(lambda it: it.status == "finished")),
    )

    steps = run.read().steps_total
    assert f"{steps} of {steps}" in shown
    assert result(run)["resumed_from"] >= 5
    assert [step["step"] for step in events.steps(run.events)] == list(range(1, steps + 1))


@pytest.fixture
def run(ready):  # noqa: F811
    """A run that has finished, and says with what."""
    ready.done.write_text(json.dumps({"outputs": digests(ready.output)}))
    return ready


def digests(folder: Path) -> dict[str, str]:
    """What is in a folder, by content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_finished_run_is_merged_from_the_monitor_as_the_command_merges_it(run, tmp_path):
    app = FinetuiApp(first=make("monitor", run.path))
    asked, told = [], []

    async def look(pilot):
        await pilot.pause()
        asked.append(picture(pilot.app))

    async def told_so(pilot):
        await until(pilot, lambda: "KL" in picture(pilot.app), "what came of it")
        await until(pilot, lambda: not pilot.app.screen.check_action("merge", ()), "no second merge")
        told.append(picture(pilot.app))

    play(app, seen(), "m", look, "enter", told_so, size=(160, 40))

    assert "goes to" in asked[0]
    assert " MB of disk" in asked[0]
    assert "merged into" in told[0]
    assert "m merge" not in told[0]
    assert command(["merge", str(run.path), "--out", str(tmp_path / "by-command"), "--plain"]) == 0
    assert digests(run.path / "merged") == digests(tmp_path / "by-command")


def test_a_merge_that_is_ended_leaves_nothing_half_made(run):
    merge, raised = Merge(run), []

    def work():
        try:
            merge.work()
        except (FinetuiError, InterruptedError) as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: (run.path / "merged.part").is_dir(), "the merge at work")
    merge.end()
    thread.join(1)
    assert raised
    assert not thread.is_alive()
    assert not [path.name for path in run.path.iterdir() if "merged" in path.name]
