"""Trackers beside a training: what they get, and that they disturb nothing. Real wandb, TensorBoard and trackio."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from finetui.core.errors import USAGE, FinetuiError
from finetui.core.events import read
from finetui.runs.folder import RunFolder
from finetui.runs.following import follow
from finetui.runs.launch import start
from finetui.runs.tracking import announcement, check_track
from tests.unit.runs.conftest import WHOLE, Made, make_bundle  # noqa: F401 (a fixture)
from tests.unit.runs.support import wait_until

pytestmark = pytest.mark.worker
SECRET = "2f" * 20


def _ended(run: RunFolder) -> list[dict[str, object]]:
    for _ in follow(run):
        pass
    wait_until(lambda: not trackers_of(run), "the end of the trackers")
    return list(read(run.supervisor_events))


def trackers_of(run: RunFolder) -> list[int]:
    """The trackers of a run that live: they may outlive it a little."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _tracks(path, run)]


def _tracks(process: Path, run: RunFolder) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has just ended
        return False
    return b"finetui.workers.track" in words and bytes(run.path) in words


def _warnings(events: list[dict[str, object]]) -> list[object]:
    return [event["text"] for event in events if event["event"] == "warning" and event["code"] == "tracker"]


def test_every_tracker_gets_the_figures_and_nothing_of_the_data(
    make_bundle: Callable[..., Made],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    run = start(make_bundle(WHOLE, steps=4).path, track="wandb,tensorboard,trackio")
    events = _ended(run)
    assert run.read().status == "finished"
    assert _warnings(events) == []

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    assert [(point.step, round(point.value, 4)) for point in board.Scalars("train/loss")] == [
        (1, 2.0),
        (2, 1.0),
        (3, 0.6667),
        (4, 0.5),
    ]
    with sqlite3.connect(tmp_path / "trackio/finetui.db") as database:
        rows = database.execute("select step, metrics from metrics order by step").fetchall()
    assert [(step, round(json.loads(metrics)["train/loss"], 4)) for step, metrics in rows][-1] == (4, 0.5)
    (kept,) = (run.path / "tracking/wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert b"train/loss" in content
    for private in (str(run.path), str(tmp_path), "train.parquet"):
        assert private.encode() not in content


def test_a_tracker_that_is_down_leaves_a_warning_and_the_run_alone(
    make_bundle: Callable[..., Made],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
    run = start(make_bundle(WHOLE).path, track="wandb")
    _ended(run)
    assert run.read().status == "finished"
    (kept,) = (run.path / "tracking/wandb").glob("offline-run-*/run-*.wandb")
    assert b"train/loss" in kept.read_bytes()
    for path in run.path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_a_tracker_that_falls_is_a_warning(
    make_bundle: Callable[..., Made],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "file"))
    run = start(make_bundle(WHOLE).path, track="trackio")
    events = _ended(run)
    assert run.read().status == "finished"
    (warning,) = _warnings(events)
    assert str(warning).startswith("trackio: ")


def test_what_is_sent_is_told_beforehand(make_bundle: Callable[..., Made]) -> None:  # noqa: F811
    run = start(make_bundle(WHOLE).path, track="tensorboard")
    (line,) = announcement(run)
    assert "train/loss" in line
    assert "No text of the data" in line
    _ended(run)


def test_an_unknown_or_missing_tracker_is_refused_before_the_start() -> None:
    with pytest.raises(FinetuiError) as refused:
        check_track("wandb,comet", sys.executable)
    assert refused.value.exit_code == USAGE
    assert "comet" in refused.value.problems[0].message()
