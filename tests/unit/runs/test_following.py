"""Readers of a run: live or late, one or many, they see the same and disturb nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from finetui.runs.figures import short_duration
from finetui.runs.following import follow, follow_log, wait_for_training
from finetui.runs.launch import start
from tests.unit.runs.conftest import GATED
from tests.unit.runs.support import has_step, wait_until

pytestmark = pytest.mark.unit


def test_two_live_readers_and_a_late_one_see_the_same(make_bundle):
    run = start(make_bundle(GATED, steps=5).path)
    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(lambda: list(follow(run, poll_s=0.01))) for _ in range(2)]
        wait_until(lambda: has_step(run, 1), "the first step")
        (run.path / "go").touch()
        live = [reader.result(timeout=60) for reader in readers]

    late = list(follow(run))
    steps = [[event.step for event in events if event.name == "step"] for events in (*live, late)]
    assert steps == [[1, 2, 3, 4, 5]] * 3


def test_a_half_written_line_waits_for_its_rest(make_bundle):
    body = (
        'started()\nlog.write(\'{"v": 1, "event": "evaluation", "time": 1.5, "step": 1, "loss": 2\')\nlog.flush()\n'
        "wait_for(out / 'go')\nlog.write('.5}\\n')\nlog.flush()\n"
        "limit = 1\nfinish()\n"
    )
    run = start(make_bundle(body).path)
    events = follow(run, poll_s=0.01)
    seen = []
    for event in events:
        seen.append(event)
        if event.name == "sample":  # the supervisor speaks while the trainer's line is still half
            (run.path / "go").touch()

    assert [event["loss"] for event in seen if event.name == "evaluation"] == [2.5]


def test_waiting_for_training_ends_where_the_run_fails_before_it(make_bundle):
    assert wait_for_training(start(make_bundle("sys.exit(1)\n").path)) is False


def test_the_log_is_followed_to_its_end(make_bundle):
    run = start(make_bundle("print('one', flush=True)\nwait_for(out / 'go')\nprint('two')\n").path)
    pieces = follow_log(run, poll_s=0.01)
    text = ""
    while "one" not in text:
        text += next(pieces)
    (run.path / "go").touch()

    assert (text + "".join(pieces)).splitlines() == ["one", "two"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "–"), (0, "0:00"), (59.6, "1:00"), (83, "1:23"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds, shown):
    assert short_duration(seconds) == shown
