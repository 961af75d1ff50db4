"""What a run's events come to: its curve, where its time went, what is odd about it, the report."""

from __future__ import annotations

import json
import math
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from finetui.cli.dashboard import dashboard
from finetui.core.events import Event, parse, read
from finetui.core.messages import set_language
from finetui.runs.figures import sparkline
from finetui.runs.folder import RunFolder
from finetui.runs.following import follow
from finetui.runs.launch import start
from finetui.runs.review.findings import findings
from finetui.runs.review.history import History, smoothed
from finetui.runs.review.ledger import ledger
from finetui.runs.review.plots import draw
from finetui.runs.review.report import main, write_report
from tests.unit.runs.conftest import Made

pytestmark = pytest.mark.unit


def _event(name: str, time: float, step: int | None = None, **facts: object) -> Event:
    event = parse(orjson.dumps({"v": 1, "event": name, "time": time, "step": step, **facts}))
    assert event is not None
    return event


def _step(step: int, loss: float | None, time: float | None = None, **facts: object) -> Event:
    usual = {
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
        "trained_tokens": 100,
        "tokens": 200,
        "tokens_per_second": 50.0,
        "batch_digest": "00",
        "epoch": step / 10,
        "memory_bytes": 2**30,
    }
    return _event("step", time if time is not None else 100.0 + step, step, loss=loss, **{**usual, **facts})


def _started(time: float, **more: object) -> Event:
    facts = {"world_size": 1, "python": "3.11", "packages": {}, "device": "cpu", "steps": 100, "rows": 10}
    return _event("started", time, None, **{**facts, **more})


def _history(*events: Event) -> History:
    history = History()
    history.take(events)
    return history


def _codes(history: History) -> list[str]:
    return [finding.code for finding in findings(history)]


def _falling(count: int, first: float = 2.0, last: float = 0.5) -> Iterator[Event]:
    for step in range(1, count + 1):
        yield _step(step, last + (first - last) * math.exp(-4 * step / count))


def _slowing(*before: Event, between: tuple[Event, ...] = ()) -> list[Event]:
    steps = [_step(step, 2.0 - step / 100, tokens_per_second=50.0 if step < 70 else 20.0) for step in range(1, 99)]
    return [*before, *steps[:69], *between, *steps[69:]]


def test_a_run_that_learns_is_not_odd() -> None:
    assert _codes(_history(*_falling(100))) == []


def test_a_flat_curve_is_laid_to_template_or_mask() -> None:
    history = _history(*(_step(step, 2.0 + 0.05 * math.sin(step)) for step in range(1, 60)))
    (finding,) = findings(history)
    assert finding.code == "flat"
    assert "template or mask" in finding.text("en")
    assert "模板或掩码" in finding.text("zh")


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_curve_is_flat_however_it_scatters_and_a_falling_one_is_not(seed: int) -> None:
    noise = random.Random(seed)
    flat = [_step(step, 1.4 + noise.gauss(0, 0.1)) for step in range(1, 200)]
    falling = [_step(step, 1.5 - 0.2 * step / 300 + noise.gauss(0, 0.3)) for step in range(1, 300)]
    assert (_codes(_history(*flat)), _codes(_history(*falling))) == (["flat"], [])


def test_a_loss_of_nothing_has_been_learnt_and_lacks_no_gradient() -> None:
    assert _codes(_history(*(_step(step, 0.0, grad_norm=0.0) for step in range(1, 60)))) == ["by-heart"]


def test_what_goes_wrong_with_a_resume_is_laid_to_it() -> None:
    higher = [_step(step, 0.9, 180.0 + step) for step in range(61, 80)]
    found = _codes(_history(*_falling(60), _started(170.0, resumed_from=60), *higher))
    assert found[0] == "higher-since-resume"
    assert "spikes" not in found
    again = [_step(step, 0.55, 180.0 + step) for step in range(61, 80)]
    assert _codes(_history(*_falling(60), _started(170.0, resumed_from=60), *again)) == []


@pytest.mark.parametrize("loss", [None, 0.0, 1e30, -1.0])
@pytest.mark.parametrize("count", [1, 2, 25, 100])
def test_no_curve_is_too_odd_to_be_looked_at(loss: float | None, count: int) -> None:
    events = [_step(step, loss, grad_norm=loss, tokens_per_second=0.0, epoch=0.0) for step in range(1, count + 1)]
    evaluations = [_event("evaluation", 900.0 + step, step, loss=loss) for step in range(1, count + 1)]
    for history in (_history(*events), _history(*evaluations), _history(*events, *evaluations)):
        assert all(found.text("en") and found.text("zh") for found in findings(history))


def test_too_few_steps_say_nothing() -> None:
    assert _codes(_history(*(_step(step, 2.0) for step in range(1, 20)))) == []


def test_a_rising_evaluation_names_the_best_checkpoint() -> None:
    history = _history(*_falling(100))
    for step, loss in ((20, 1.2), (40, 1.0), (60, 1.1), (80, 1.2)):
        history.take([_event("evaluation", 300.0 + step, step, loss=loss)])
        history.take([_event("checkpoint", 301.0 + step, step, path=f"checkpoints/checkpoint-{step}")])
    (finding,) = findings(history)
    assert "since step 40" in finding.text("en")
    assert "checkpoint-40 is the best" in finding.text("en")


def test_an_evaluation_that_rose_once_is_noise() -> None:
    history = _history(*_falling(100))
    history.take([_event("evaluation", 300.0 + step, step, loss=loss) for step, loss in ((40, 1.0), (60, 1.1))])
    assert _codes(history) == []


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([*_falling(60), *(_step(step, 0.6 + 0.2 * (step - 60)) for step in range(61, 90))], "diverges"),
        ([*_falling(60), _step(61, 9.0), *(_step(step, 0.5) for step in range(62, 80))], "spikes"),
        ([_step(1, 9.5)], "unknown-text"),
        ([_step(step, 2.0 / step, grad_norm=0.0) for step in range(1, 5)], "no-gradient"),
        ([*_falling(40), _step(41, 0.5, grad_norm=500.0)], "gradient-bursts"),
        ([_step(step, 2.0 * 0.8**step) for step in range(1, 60)], "by-heart"),
        (_slowing(_started(0.0, device="NVIDIA A10")), "slower"),
        (_slowing(_started(0.0)), "slower-cpu"),
    ],
)
def test_each_oddity_is_named(events: list[Event], code: str) -> None:
    assert code in _codes(_history(*events))


def test_a_run_that_was_resumed_is_not_compared_with_the_speed_before() -> None:
    resumed = _started(169.5, resumed_from=69, changes={"per_device_train_batch_size": 1})
    assert _codes(_history(*_slowing(_started(0.0), between=(resumed,)))) == []


def test_a_gpu_is_not_blamed_for_a_slow_cpu() -> None:
    [finding] = [each for each in findings(_history(*_slowing(_started(0.0)))) if each.code == "slower-cpu"]
    assert "GPU" not in finding.text("en") + finding.text("zh")


def test_a_gradient_that_shrinks_as_the_rows_are_learnt_has_not_burst() -> None:
    steps = (_step(step, 0.5 + 2.0 / step, grad_norm=5.0 * 0.95**step) for step in range(1, 200))
    assert "gradient-bursts" not in _codes(_history(*steps))


def test_a_gradient_that_grows_without_end_has_burst_where_it_left_what_was_usual() -> None:
    steps = (_step(step, 2.0, grad_norm=0.1 * (1.0 if step < 60 else 1.5 ** (step - 59))) for step in range(1, 80))
    [burst] = [finding for finding in findings(_history(*steps)) if finding.code == "gradient-bursts"]
    assert str(burst.facts["steps"]).startswith("67, 68, 69")
    assert burst.facts["usual"] == "0.1"


def test_steps_done_again_after_a_fall_count_once() -> None:
    history = _history(*(_step(step, 1.0) for step in range(1, 9)))
    history.take([_event("evaluation", 200.0, 8, loss=1.0), _step(6, 0.5, 300.0)])
    assert list(history.steps) == [1, 2, 3, 4, 5, 6]
    assert history.losses[-1] == 0.5
    assert history.repeated == 3
    assert history.evaluations == []


def test_what_a_resumed_run_has_lost_is_forgotten_at_its_start() -> None:
    history = _history(_started(0.0), *(_step(step, 1.0) for step in range(1, 9)))
    history.take([_event("checkpoint", 120.0, 8, path="checkpoints/checkpoint-8")])
    history.take([_started(300.0, resumed_from=4)])
    assert (list(history.steps), history.repeated, history.checkpoints) == ([1, 2, 3, 4], 4, [])


def _supervised(time: float) -> Event:
    return _event("supervisor", time, pid=1, trainer_pid=2)


def _exit(time: float, code: int) -> Event:
    return _event("exit", time, exit_code=code, killed=[])


_TRAINED = [
    _supervised(0.0),
    _started(10.0),
    _event("model_loaded", 30.0, parameters=1, trainable_parameters=1, seconds=20.0),
    _step(1, 1.0, 40.0),
    _step(2, 1.0, 45.0),
    _event("evaluation", 48.0, 2, loss=1.0),
    _event("checkpoint", 50.0, 2, path="checkpoints/checkpoint-2"),
]
_FIGURES = {"final_loss": 1.0, "seconds": 1.0, "tokens_per_second": 1.0, "output_digests": {}}
_FINISHED = [
    _supervised(100.0),
    _started(110.0, resumed_from=2),
    _step(3, 1.0, 120.0),
    _step(4, 1.0, 125.0),
    _event("finished", 127.0, 4, steps=4, **_FIGURES),
    _exit(130.0, 0),
]
_RESUMED = {"starting": 60.0, "training": 10.0, "evaluating": 3.0}


@pytest.mark.parametrize(
    ("events", "found"),
    [
        (
            [*_TRAINED, _exit(60.0, 137), *_FINISHED],
            {**_RESUMED, "saving": 7.0, "idle": 10.0, "away": 40.0},
        ),
        (
            [*_TRAINED, _event("stop", 52.0, asked=[2]), _step(3, 1.0, 54.0), _exit(60.0, 75), *_FINISHED],
            {**_RESUMED, "training": 14.0, "saving": 13.0, "away": 40.0},
        ),
        (
            [*_TRAINED, _event("sample", 55.0, gpus=[]), *_FINISHED],  # the machine went down
            {**_RESUMED, "saving": 7.0, "idle": 5.0, "away": 45.0},
        ),
        (
            [*_TRAINED, _exit(60.0, 75), _event("queued", 90.0, position=1, waits_for=["a"]), *_FINISHED],
            {**_RESUMED, "saving": 17.0, "idle": 10.0, "away": 30.0},
        ),
        (
            [*_TRAINED, *_FINISHED[1:]],  # a job of Slurm that was queued again: nobody supervises it
            {**_RESUMED, "starting": 50.0, "saving": 7.0, "away": 60.0},
        ),
        (
            [*_TRAINED, _exit(60.0, 0), _event("then", 130.0, verb="merge", exit_code=0)],
            {"starting": 40.0, "training": 5.0, "evaluating": 3.0, "saving": 12.0, "idle": 70.0},
        ),
    ],
    ids=["killed", "stopped", "interrupted", "queued", "requeued", "merged"],
)
def test_the_ledger_sums_to_all_the_time(events: list[Event], found: dict[str, float]) -> None:
    history = _history(*events)
    assert {entry.phase: entry.seconds for entry in ledger(history)} == found
    assert sum(found.values()) == 130.0
    for entry in ledger(history, gpus=4, price=2.0):
        assert entry.cost == pytest.approx(0.0 if entry.phase == "away" else entry.seconds / 3600 * 8)


def test_a_run_that_waits_for_its_turn_is_idle_from_the_beginning() -> None:
    history = _history(_event("queued", 0.0, position=1, waits_for=["a"]))
    assert {entry.phase: entry.seconds for entry in ledger(history, now=20.0)}["idle"] == 20.0
    history.take([_event("queued", 30.0, position=1, waits_for=["b"]), _supervised(50.0), _started(60.0)])
    found = {entry.phase: entry.seconds for entry in ledger(history)}
    assert (found["idle"], found["starting"], "away" in found) == (50.0, 10.0, False)


def test_a_run_that_was_interrupted_is_charged_until_it_was_last_heard_of() -> None:
    history = _history(*_TRAINED, _event("sample", 55.0, gpus=[]))
    found = {entry.phase: entry.seconds for entry in ledger(history)}
    assert (found["idle"], sum(found.values())) == (5.0, 55.0)


def test_a_run_that_lives_is_charged_until_now() -> None:
    history = _history(_event("supervisor", 0.0, pid=1, trainer_pid=2), _started(10.0))
    assert {entry.phase: entry.seconds for entry in ledger(history, now=25.0)}["starting"] == 25.0


def test_a_clock_that_is_set_back_takes_nothing_from_the_ledger() -> None:
    history = _history(_started(100.0), _step(1, 1.0, 110.0), _step(2, 1.0, 50.0), _step(3, 1.0, 55.0))
    assert {entry.phase: entry.seconds for entry in ledger(history)}["training"] == 5.0


def test_the_rest_is_predicted_from_the_recent_steps_and_what_stands_between_them() -> None:
    history = _history(_started(0.0), _step(1, 1.0, 10.0))
    assert history.seconds_left(10) is None
    history.take(_step(step, 1.0, 10.0 + 2 * (step - 1)) for step in range(2, 6))
    assert history.seconds_left(10) == 10.0
    history.take([_event("evaluation", 22.0, 5, loss=1.0)])  # as long as two steps of the four so far
    assert history.seconds_left(10) == pytest.approx(15.0)
    assert history.seconds_left(5) == 0.0


def test_a_run_at_a_glance_says_everything_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    history = _history(_started(0.0), *_falling(60))
    history.take([_event("evaluation", 300.0 + step, step, loss=1 + step / 100) for step in (20, 40, 60)])
    history.take([_event("checkpoint", 400.0, 20, path="checkpoints/checkpoint-20")])
    gpu = {"index": 0, "use_percent": 97, "memory_bytes": 21 << 30, "total_bytes": 24 << 30, "temperature_c": 81}
    gone = {**dict.fromkeys(gpu), "index": 1, "power_w": None, "throttled": False}
    gpus = [{**gpu, "power_w": None, "throttled": True}, gone]
    facts = {"resident_bytes": 2**30, "ram_free_bytes": 2**33, "cpu_percent": 150, "disk_free_bytes": 2**35}
    history.take([_event("sample", 401.0, None, **facts, gpus=gpus)])
    lock = {"predicted": {"peak_bytes": 2**31, "band": [2**30, 2**32]}}
    Console(width=80, file=sys.stdout).print(dashboard(history, 100, lock))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for words in ("60 of 100", "60 %", "smoothed", "lowest 1.2000 at step 20", "gradient norm 1", "50 tokens/s"):
        assert words in shown
    for words in ("2.0 GiB predicted (1.0 GiB to 4.0 GiB)", "by the last 20 steps", "97 % · 21.0 GiB / 24.0 GiB"):
        assert words in shown
    assert "throttled" in shown
    assert "1  does not answer" in shown
    assert "evaluation rises since step 20" in " ".join(shown.split())


def test_a_sparkline_follows_its_values() -> None:
    assert sparkline([3.0, 2.0, 1.0], 10) == "█▅▁"
    assert sparkline([1.0] * 100, 5) == "▁▁▁▁▁"
    assert sparkline([1.0, math.nan, 2.0], 3) == "▁ █"
    assert sparkline([], 5) == ""


def test_the_average_starts_where_the_losses_do() -> None:
    curve = smoothed([2.0, 2.0, math.nan, 1.0])
    assert list(curve[:3]) == pytest.approx([2.0, 2.0, 2.0])
    assert 1.0 < curve[3] < 2.0


def test_pictures_are_the_same_for_the_same_run(tmp_path: Path) -> None:
    history = _history(*_falling(50), _event("evaluation", 300.0, 40, loss=1.0))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw(history, "$x_1$ <run>", tmp_path / name)
    assert (tmp_path / "a/loss.svg").read_bytes() == (tmp_path / "b/loss.svg").read_bytes()
    assert (tmp_path / "a/loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def font(tmp_path: Path) -> Iterator[Path]:
    """A font that is on this machine for as long as the test, and has nothing but 测试, each as a square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "a", "b"])
    builder.setupCharacterMap({ord("测"): "a", ord("试"): "b"})
    builder.setupGlyf(dict.fromkeys((".notdef", "a", "b"), square))
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "a", "b"), (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "two-squares.ttf"
    builder.save(path)
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(path)
    yield path
    font_manager.fontManager.ttflist[:] = before


def _drawn(title: str, folder: Path) -> tuple[bytes, str]:
    folder.mkdir()
    draw(_history(*_falling(50)), title, folder)
    return (folder / "loss.png").read_bytes(), (folder / "loss.svg").read_text()


def test_a_title_that_no_font_here_draws_is_whole_in_the_svg_and_shorter_in_the_png(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import font_manager

    plain = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", plain)
    png, svg = _drawn("20261122-101010-测试", tmp_path / "a")
    assert png == _drawn("20261122-101010", tmp_path / "b")[0]
    assert ">20261122-101010-测试<" in svg
    assert _drawn("测试", tmp_path / "c")[0] == _drawn("", tmp_path / "d")[0]
    assert not recwarn.list


@pytest.mark.usefixtures("font")
def test_a_title_is_drawn_by_a_font_that_has_it(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    png, svg = _drawn("20261122-101010-测试", tmp_path / "a")
    assert png != _drawn("20261122-101010", tmp_path / "b")[0]
    assert ">20261122-101010-测试<" in svg
    assert not recwarn.list


def test_the_report_tells_of_a_run_that_failed(failed_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report", str(failed_run.path)])
    assert main() == 0
    text = (failed_run.path / "report.md").read_text()
    assert "nan" in text.lower()
    assert "![loss](loss.svg)" in text
    assert "| before the first step |" in text
    assert "```sh\nfinetui recipes explain learning_rate\n```" in text
    assert (failed_run.path / "loss.svg").is_file()


def test_a_run_that_has_finished_leaves_its_report(make_bundle: Callable[..., Made]) -> None:
    run = start(make_bundle().path)
    while not (told := [event for event in read(run.supervisor_events) if event["event"] == "report"]):
        time.sleep(0.05)
    assert told[0]["exit_code"] == 0
    assert "Finished: 3 steps" in (run.path / "report.md").read_text()
    assert (run.path / "loss.png").is_file()


def test_the_commands_of_the_report_can_be_typed(make_bundle: Callable[..., Made], tmp_path: Path) -> None:
    odd = tmp_path / "a b $(id).bundle"
    make_bundle().path.rename(odd)
    run = start(odd)
    list(follow(run))
    commands = write_report(run).read_text().partition("```sh\n")[2].partition("```")[0].splitlines()
    assert [shlex.split(command)[1] for command in commands] == ["merge", "chat", "replay"]
    assert shlex.split(commands[2]) == ["finetui", "replay", str(odd)]


def test_the_report_exists_in_chinese(failed_run: RunFolder) -> None:
    set_language("zh")
    try:
        assert "## 时间去向" in write_report(failed_run).read_text()
    finally:
        set_language(None)


@pytest.fixture
def failed_run(tmp_path: Path) -> RunFolder:
    """The folder of a run that went to NaN after 40 steps, whose bundle is gone."""
    folder = tmp_path / "20261122-101010-x|<b>`y"
    folder.mkdir()
    state = {
        "run": folder.name,
        "bundle": str(tmp_path / "gone.bundle"),
        "bundle_id": "0",
        "bundle_name": "x",
        "model": "/m",
        "python": "/p",
        "world_size": 1,
        "steps_total": 80,
        "started": 90.0,
        "status": "failed",
        "ended": 150.0,
        "exit_code": 1,
        "cause": "nan",
        "detail": "loss is NaN at step 41",
    }
    (folder / "state.json").write_text(json.dumps(state))
    events = [_started(95.0), *_falling(40), _event("failed", 142.0, 41, cause="nan", detail="loss is NaN at step 41")]
    (folder / "events.jsonl").write_bytes(b"".join(event.line + b"\n" for event in events))
    (folder / "train.log").write_text("")
    return RunFolder(folder)
