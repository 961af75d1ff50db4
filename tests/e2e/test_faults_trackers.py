"""Trackers that are down, silent or without a key leave a run as it is; a run that goes on continues its curves."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetui.core import events
from finetui.core.files import read_json
from finetui.runs import processes
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.launch import start
from finetui.runs.outcome import result
from tests.unit.runs.support import finetui, has_step, wait_until
from tests.workers.test_runs import _leave_nothing_running, make_bundle, run_to_end  # noqa: F401 (fixtures)
from tests.workers.test_track import trackers_of

pytestmark = pytest.mark.soak
KEY = "3e" * 20
HELD_UP_S = 8.0
"""Beyond what the end of a run takes without a tracker; a few seconds, on cores that others use as well."""


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes every connection and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def seconds_after_training(run: RunFolder) -> float:
    """From the trainer's last word to the state that says so."""
    finished = events.last(run.events, ["finished"])
    assert finished is not None
    return (run.read().ended or 0.0) - finished.time


def losses_sent(run: RunFolder) -> list[int]:
    """The steps whose loss the wandb files of a run hold, in the order in which they were sent, over all launches."""
    from wandb.proto import wandb_internal_pb2

    steps = []
    for path in sorted((run.path / "tracking/wandb").glob("offline-run-*/run-*.wandb")):
        for data in records_of(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            told = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            if "train/loss" in told:
                steps.append(int(json.loads(told["train/global_step"])))
    return steps


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a wandb file: LevelDB's log format after seven bytes of its own."""
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or the last part of one
            yield record
            record = b""


@pytest.mark.parametrize("kind", ["a dead port", "a silent server", "no key"])
def test_a_wandb_that_is_away_costs_the_run_nothing(
    make_bundle: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    silent_server: str,
    kind: str,
) -> None:
    bundle = make_bundle("max_steps=20", "save_steps=0")
    plain = run_to_end(bundle)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    if kind != "no key":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", silent_server if kind == "a silent server" else "http://127.0.0.1:9")

    began = time.monotonic()
    done = finetui("run", str(bundle), "--track", "wandb", "--json")
    seconds = time.monotonic() - began

    run = find_run("last")
    outcome = json.loads(done.stdout)
    returned_after = time.time() - (run.read().ended or 0.0)
    assert (done.returncode, outcome["status"]) == (0, "finished"), done.stderr
    assert outcome["adapter_sha256"] == result(plain)["adapter_sha256"]
    beyond = seconds_after_training(run) - seconds_after_training(plain)
    print(f"{kind}: {seconds:.1f} s in all, finished {beyond:+.1f} s, the command back {returned_after:.1f} s later")
    assert beyond < HELD_UP_S
    assert returned_after < 2 * HELD_UP_S
    wait_until(lambda: not trackers_of(run), "the end of the tracker", 90)
    print(f"{kind}: the tracker ended {time.time() - (run.read().ended or 0.0):.1f} s after the run")
    assert losses_sent(run) == list(range(1, 21))
    assert KEY not in "".join(path.read_text(errors="replace") for path in run.path.rglob("*") if path.is_file())


def test_a_run_that_goes_on_continues_its_curves(
    make_bundle: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    run = start(make_bundle("max_steps=300", "save_steps=20"), track="wandb,tensorboard,trackio")
    wait_until(lambda: has_step(run, 50), "the fiftieth step", 120)
    processes.send(processes.trainers(run.path), signal.SIGKILL)
    wait_until(lambda: run.status() == "failed", "the end of the run")
    made = [event["step"] for event in events.read(run.events) if event["event"] == "step"]

    done = finetui("resume", run.name, "--json")

    assert done.returncode == 0, done.stderr
    resumed_from = json.loads(done.stdout)["resumed_from"]
    assert 0 < resumed_from < made[-1], "some steps have to be made twice for this test"
    wait_until(lambda: not trackers_of(run), "the end of the trackers", 90)
    whole = list(range(1, 301))
    offline = list((run.path / "tracking/wandb").glob("offline-run-*"))
    assert [path.name.endswith(f"-{run.name}") for path in offline] == [True, True], offline
    assert losses_sent(run) == whole
    assert board_steps(run) == whole
    with sqlite3.connect(tmp_path / "trackio/finetui.db") as database:
        rows = database.execute(
            "select run_name, step from metrics where cast(metrics as text) like '%train/loss%'"
        ).fetchall()
    assert {name for name, _ in rows} == {run.name}
    assert Counter(step for _, step in rows) == Counter(whole)
    assert read_json(run.path / "tracking/wandb.json")["sent"]["step"] == 300


def board_steps(run: RunFolder) -> list[int]:
    """The steps of the one loss curve that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    return [point.step for point in board.Scalars("train/loss")]


def test_a_tracker_that_is_killed_or_stopped_holds_nothing_up(
    make_bundle: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = start(make_bundle("max_steps=200", "save_steps=0"), track="tensorboard,trackio")
    wait_until(lambda: len(trackers_of(run)) == 2 and has_step(run, 3), "both trackers", 60)
    killed, frozen = trackers_of(run)
    os.kill(killed, signal.SIGKILL)
    os.kill(frozen, signal.SIGSTOP)

    done = finetui("watch", run.name, "--json")
    ended = time.time() - (run.read().ended or 0.0)
    os.kill(frozen, signal.SIGKILL)

    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "finished")
    print(f"one killed, one frozen: the command back {ended:.1f} s after the end")
    assert ended < 2 * HELD_UP_S
