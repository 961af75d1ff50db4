"""The app over the real trainer: a run is watched, stopped with a checkpoint, and goes on to its end."""

from __future__ import annotations

import pytest

from finetui.app.registry import make
from finetui.app.shell import FinetuiApp
from finetui.core import events
from finetui.runs.launch import start
from finetui.runs.outcome import result
from tests.unit.app.support import play
from tests.unit.app.test_monitor import seen
from tests.unit.runs.support import has_step, wait_until
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
