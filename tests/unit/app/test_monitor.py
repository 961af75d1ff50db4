"""The monitor: a run as its files tell, live or ended; others beside it; stopping it and going on with it."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from finetui.app.registry import make
from finetui.app.screens.monitor import Monitor
from finetui.app.shell import FinetuiApp
from finetui.app.watching import LogTail, Watch
from finetui.app.widgets.curves import Curve, chart
from finetui.core.events import Event, Reader
from finetui.core.messages import set_language
from finetui.runs.folder import RunFolder
from finetui.runs.launch import start
from tests.unit.app.support import (
    SIZES,
    Act,
    assert_golden,
    event,
    live,
    make_run,
    picture,
    play,
    started,
    step,
    until,
    write_events,
)
from tests.unit.runs.conftest import GATED, Made, _leave_nothing_running, make_bundle  # noqa: F401
from tests.unit.runs.support import has_step, wait_until

pytestmark = pytest.mark.unit

HOSTILE = "\x1b]52;c;aGk=\x07[INST] [/x] \x9b31m\u202efine"


def test_an_empty_panel_says_why_it_is_empty(home: Path) -> None:
    run = make_run(home, "20260101-000000-young", 3, **live())
    assert "no checkpoint yet" in play(watched(run), seen(), "2")
    assert "nothing printed yet" in play(watched(run), seen(), "3")


def test_there_is_nobody_to_talk_to_before_the_first_checkpoint(home: Path) -> None:
    run = make_run(home, "20260101-000000-young", 3, **live())
    assert told(run, "c") == ["There is no checkpoint to talk to yet. s stops the run and saves one."]
    bundle = Path(run.read().bundle)
    bundle.mkdir(parents=True)
    (bundle / "lock.json").write_text(json.dumps({"training": {"save_steps": {"value": 25, "reason": ""}}}))
    assert ["The next is saved at step 25." in each for each in told(run, "c")] == [True]


def told(run: RunFolder, key: str) -> list[str]:
    """What the monitor says in its corner after this key."""
    app = watched(run)
    play(app, seen(), key)
    return [each.message for each in app._notifications]


def test_without_colours_each_of_several_runs_has_a_sign_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make_run(home, f"20260101-00000{number}-a", 40) for number in (1, 2))
    monkeypatch.setenv("NO_COLOR", "1")
    shown = play(watched(second), seen(), "o", "enter", shows("+ 20260101-000001-a"))
    assert first.name in shown
    assert "* 20260101-000002-a" in shown
    assert "++" in shown
    assert "⠤" not in shown


def test_what_looks_odd_stands_before_what_only_is(home: Path) -> None:
    run = make_run(home, "20260101-000000-odd")
    write_events(run, [started(100), *(step(number, 100, loss=6.5) for number in range(1, 31))])
    shown = play(watched(run), seen(), size=SIZES["120x40"])
    assert shown.index(" look ") < shown.index(" time ")


def watched(run: RunFolder, **options: Any) -> FinetuiApp:
    """The app with the monitor of a run in front."""
    return FinetuiApp(first=make("monitor", run.path), **options)


def seen(what: Callable[[Any], object] = lambda snapshot: True) -> Act:
    """Wait until the monitor has a snapshot of which this holds."""

    async def wait(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: any(map(what, _snapshots(pilot.app))), "the snapshot")

    return wait


def _snapshots(app: Any) -> list[Any]:
    return [each._seen for each in app.screen_stack if isinstance(each, Monitor) and each._seen is not None]


def shows(words: str) -> Act:
    """Wait until these words are on the screen."""

    async def wait(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: words in picture(pilot.app), words)

    return wait


@pytest.fixture
def ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of 60 steps, under a path that is the same in every test."""
    home.mkdir()
    monkeypatch.chdir(home)
    run = make_run(Path(), "20260101-000001-tiny", 60)
    checkpoints = [event("checkpoint", 2.0 + 2 * at, at, path=f"checkpoints/checkpoint-{at}") for at in (20, 40, 60)]
    evaluations = [event("evaluation", 2.1 + 2 * at, at, loss=0.4 + 1 / at) for at in (20, 40, 60)]
    write_events(run, sorted([*checkpoints, *evaluations], key=lambda each: each["time"]))
    run.log.write_text("first words\n" + HOSTILE + "\nlast words\n")
    return run


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_an_ended_run_shows_its_curve_and_facts(ended: RunFolder, lang: str, size: str) -> None:
    set_language(lang)
    assert_golden(play(watched(ended), seen(), size=SIZES[size]), f"monitor-{size}-{lang}")


def test_checkpoints_stand_newest_first_with_their_evaluation(ended: RunFolder) -> None:
    lines = play(watched(ended), seen(), "2").splitlines()
    rows = [line.split() for line in lines if "checkpoints/checkpoint-" in line]
    assert [(row[1], row[-1]) for row in rows] == [("60", "0.4167"), ("40", "0.4250"), ("20", "0.4500")]


def test_the_log_shows_its_end_and_nothing_that_a_terminal_obeys(ended: RunFolder) -> None:
    shown = play(watched(ended), seen(), "3")
    assert "last words" in shown
    assert "[INST] [/x] �fine" in shown
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)


def test_without_utf8_the_chart_is_ascii(ended: RunFolder) -> None:
    shown = play(watched(ended, ascii_only=True), seen())
    assert shown.isascii()
    assert "**" in shown
    assert_golden(shown, "monitor-80x24-ascii")


def test_it_fits_a_small_window(ended: RunFolder) -> None:
    lines = play(watched(ended), seen(), size=(40, 12)).splitlines()
    assert len(lines) == 12
    assert "⠤" in "".join(lines[:6])


def test_a_live_run_is_followed(home: Path) -> None:
    run = make_run(home, "20260101-000001-tiny", 10, **live())

    async def train(_: object) -> None:
        write_events(run, [step(11, 100, loss=0.125)])

    shown = play(watched(run), seen(), train, shows("0.1250"))
    assert "11 of 100" in shown
    assert "running" in shown.splitlines()[0]
    assert "s stop" in shown.splitlines()[-1]


def test_gpus_have_meters(home: Path) -> None:
    run = make_run(home, "20260101-000001-tiny", 10, **live())
    gpu = {"index": 0, "use_percent": 50, "memory_bytes": 2**33, "total_bytes": 2**34, "throttled": True}
    sample = {"resident_bytes": 1, "ram_free_bytes": 1, "cpu_percent": 1, "disk_free_bytes": 1, "gpus": [gpu]}
    with run.supervisor_events.open("w") as stream:
        stream.write(json.dumps(event("sample", 30.0, **sample)) + "\n")
    assert "████░░░░ ████░░░░  0  50 % · 8.0 GiB / 16.0 GiB · throttled" in play(watched(run), seen())


def test_a_run_before_its_first_step_says_so(home: Path) -> None:
    run = make_run(home, "20260101-000001-tiny", **live())
    write_events(run, [started(100)])
    assert "no step yet" in play(watched(run), seen())


def test_another_run_is_drawn_beside_it_and_taken_away_again(ended: RunFolder, home: Path) -> None:
    make_run(home, "20260101-000002-other", 30)
    both = play(watched(ended), seen(), "o", "enter", shows("━━ 20260101-000002-other"))
    assert "━━ 20260101-000001-tiny" in both
    one = play(watched(ended), seen(), "o", "enter", shows("━━"), "o", "enter", seen(), shows("⠁"))
    assert "o compare" in one


def test_a_failed_run_says_why_and_what_to_do(home: Path) -> None:
    run = make_run(home, "20260101-000001-tiny", 5, status="failed", cause="nan", detail="step 6")
    shown = play(watched(run), seen())
    assert "failed" in shown.splitlines()[0]
    assert "u resume" in shown.splitlines()[-1]


def test_the_language_of_the_facts_is_switched_too(ended: RunFolder) -> None:
    assert "已训练" in play(watched(ended), seen(), "f3", shows("已训练"))


def test_stop_asks_saves_and_ends_the_run(make_bundle: Callable[..., Made]) -> None:  # noqa: F811
    run = start(make_bundle(GATED).path)
    wait_until(lambda: has_step(run, 1), "the first step")

    asked = play(watched(run), seen(lambda it: it.is_live), "s")
    assert "Save a checkpoint, then end" in asked
    play(watched(run), seen(lambda it: it.is_live), "s", "escape")
    assert run.status() == "running"

    shown = play(watched(run), seen(lambda it: it.is_live), "s", "enter", seen(lambda it: it.status == "stopped"))
    assert (run.path / "saved").exists()
    assert "stopped" in shown.splitlines()[0]


def test_a_bundle_is_run_from_home_and_watched_to_its_end(home: Path, make_bundle: Callable[..., Made]) -> None:  # noqa: F811
    kept = home / "bundles" / "tiny.bundle"
    kept.parent.mkdir(parents=True)
    shutil.move(make_bundle().path, kept)

    asked = play(FinetuiApp(), "tab", "enter")
    assert "Run tiny.bundle?" in asked
    shown = play(FinetuiApp(), "tab", "enter", "enter", seen(lambda it: it.status == "finished"))
    assert "3 of 3" in shown


def test_a_resume_that_is_refused_says_why_in_the_words_of_the_command(home: Path) -> None:
    run = make_run(home, "20260101-000001-tiny", 5, status="stopped")
    shown = play(watched(run), seen(), "u", "enter")
    assert "This cannot be done" in shown


def test_a_run_whose_folder_is_gone_is_told_not_fallen_over(home: Path) -> None:
    run = RunFolder(home / "runs" / "20260101-000001-gone")
    assert "This cannot be done" in play(watched(run), shows("This cannot be done"))


# ---- what it is made of


def test_a_poll_without_news_gives_nothing(ended: RunFolder) -> None:
    watch = Watch(ended.path)
    assert watch.poll() is not None
    assert watch.poll() is None
    assert watch.poll(again=True) is not None


def test_a_long_run_is_drawn_at_once_and_keys_are_answered_while_its_past_is_gone_through(
    ended: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_through, glance = threading.Event(), Reader.glance

    def slowly(reader: Reader, *, rare: bool = True) -> list[Event]:
        if rare:
            gone_through.wait()
        return glance(reader, rare=rare)

    async def go_on(_: object) -> None:
        gone_through.set()

    for limit, value in (("_WHOLE_BYTES", 1000), ("_POINTS", 3), ("_NEWEST", 1)):
        monkeypatch.setattr(f"finetui.core.overview.{limit}", value)
    monkeypatch.setattr("finetui.app.watching._LONG_BYTES", 0)
    monkeypatch.setattr(Reader, "glance", slowly)
    keys = (seen(), "3", shows("last words"), "2", go_on, shows("checkpoints/checkpoint-20"))
    assert "⠤" in play(watched(ended), *keys)


def test_a_log_is_read_from_its_end_and_on_from_there_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    tail = LogTail(path)
    assert tail.read() == ""
    path.write_text("x" * 100_000 + "\nnew\nhal")
    assert tail.read() == "new\n"
    with path.open("a") as stream:
        stream.write("f\n")
    assert tail.read() == "half\n"
    assert tail.read() == ""


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right() -> None:
    steps = list(range(1, 101))
    losses = [2 - step / 100 for step in steps]
    lines = [line.plain for line in chart([Curve("", steps, losses, losses)], 40, 8)]
    assert [len(line) <= 40 for line in lines] == [True] * 8
    assert [line[:8].strip() for line in lines[:-1]] == ["1.99", "", "", "1.5", "", "", "1"]
    starts = [len(line) - len(line[9:].lstrip()) for line in lines[:-1]]
    assert starts == sorted(starts)


def test_a_logarithmic_scale_leaves_out_what_it_cannot_show() -> None:
    curve = Curve("", [1, 2, 3], [100.0, 0.0, 1.0], [100.0, 10.0, 1.0])
    lines = [line.plain for line in chart([curve], 40, 6, log=True)]
    assert [line[:8].strip() for line in lines[:-1]] == ["100", "", "10", "", "1"]


@pytest.mark.parametrize("losses", [[], [math.nan, math.nan], [1.0, 1.0], [math.inf, 1.0], [0.0, 0.0], [-1.0, 1e300]])
@pytest.mark.parametrize("log", [False, True])
def test_no_losses_break_the_chart(losses: list[float], log: bool) -> None:
    curve = Curve("", list(range(1, len(losses) + 1)), losses, losses, [(1, value) for value in losses])
    for width, height in ((80, 20), (20, 4), (1, 1), (0, 0)):
        chart([curve], width, height, log=log)
        chart([curve, curve], width, height, log=log, ascii_only=True)


def test_a_spike_among_many_steps_stays_in_the_picture() -> None:
    from finetui.app.widgets.curves import _outermost

    losses = [1.0] * 100_000
    losses[54_321] = 9.0
    places = _outermost(losses, 1000)
    assert 54_321 in places
    assert len(places) <= 1002
