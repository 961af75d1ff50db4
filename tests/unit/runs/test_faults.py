"""What may befall a run's supervisor: kills, races, a full disk, a clock that jumps, another machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.bundles import trust
from finetui.core.errors import FinetuiError
from finetui.runs import following, processes
from finetui.runs.folder import HEARTBEAT_S, RunFolder, find_run
from finetui.runs.following import follow
from finetui.runs.journal import Journal
from finetui.runs.launch import launch, prepare, start
from finetui.runs.outcome import result
from finetui.runs.state import RUNNING
from finetui.runs.stopping import stop
from tests.unit.runs.conftest import GATED
from tests.unit.runs.support import finetui, has_step, kill, read_state, wait_until
from tests.unit.runs.test_finding import make_run

pytestmark = pytest.mark.unit


def at_first_step(make_bundle, body: str = GATED, **choices) -> RunFolder:
    run = start(make_bundle(body).path, **choices)
    wait_until(lambda: has_step(run, 1), "the first step")
    return run


@pytest.mark.parametrize("command", ["runs", "watch"])
def test_whoever_looks_gives_an_orphaned_run_a_supervisor_again(make_bundle, command):
    run = at_first_step(make_bundle)
    before = run.read().identity
    kill(before)

    shown = json.loads(finetui("runs", "--json").stdout)["runs"][0] if command == "runs" else {"status": "running"}
    watching = subprocess.Popen([sys.executable, "-m", "finetui", "watch", run.name], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: run.read().identity != before, "another supervisor")
    (run.path / "go").touch()
    _, said = watching.communicate(timeout=60)

    assert shown["status"] == "running"
    assert watching.returncode == 0, said
    assert "step 3 of 3" in said
    assert (run.read().status, run.read().exit_code) == ("finished", 0)


def test_a_supervisor_killed_between_the_end_and_its_last_word_loses_nothing(make_bundle):
    run = at_first_step(make_bundle)
    state = run.read()
    os.kill(state.pid, signal.SIGSTOP)
    (run.path / "go").touch()
    wait_until(run.exit_record.exists, "the kept exit code")
    os.kill(state.pid, signal.SIGKILL)
    wait_until(lambda: not state.identity.is_alive(), "the end of the supervisor")

    finetui("runs")
    list(follow(run))

    assert (run.read().status, run.read().exit_code) == ("finished", 0)


def test_the_script_that_keeps_the_exit_code_may_die_too(make_bundle):
    run = at_first_step(make_bundle)

    kill(run.read().trainer)
    (run.path / "go").touch()
    list(follow(run))

    assert (run.read().status, run.read().exit_code) == ("finished", None)


def test_of_two_starts_at_once_one_wins_and_the_other_says_who(make_bundle):
    run = prepare(make_bundle(GATED).path)
    refusals: list[FinetuiError] = []

    def begin() -> None:
        try:
            launch(run)
        except FinetuiError as error:
            refusals.append(error)

    starters = [threading.Thread(target=begin) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    wait_until(lambda: has_step(run, 1), "the first step")

    assert [error.problems[0].code for error in refusals] == ["runs.has-supervisor"] * 3
    assert all(f"process {run.read().pid}" in str(error) for error in refusals)
    assert run.events.read_text().count('"started"') == 1
    assert stop(run).left == 0


def test_a_stop_from_outside_saves_as_one_from_here(make_bundle):
    """As on preemption: every process of the machine is sent SIGTERM."""
    run = at_first_step(make_bundle)

    processes.send(processes.of_run(run.path), signal.SIGTERM)
    list(follow(run))

    assert (result(run)["status"], (run.path / "saved").exists()) == ("stopped", True)


def test_a_trainer_that_was_asked_alone_is_stopped_not_failed(make_bundle):
    run = at_first_step(
        make_bundle, GATED.replace("stop_saves()", "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))")
    )

    [trainer] = processes.descendants([run.read().trainer_pid])
    os.kill(trainer, signal.SIGTERM)
    list(follow(run))

    assert (result(run)["status"], run.read().exit_code) == ("stopped", 75)


def test_now_saves_nothing_and_leaves_nobody(make_bundle):
    run = at_first_step(make_bundle)
    lives = len(processes.of_run(run.path))

    done = json.loads(finetui("stop", run.name, "--now", "--json").stdout)

    assert (done["status"], done["processes"], done["left"]) == ("stopped", lives, 0)
    assert not (run.path / "saved").exists()
    assert processes.of_run(run.path) == []


def test_stop_reaches_what_has_left_the_session_and_the_parent(make_bundle):
    body = "subprocess.Popen(['setsid', '-f', 'sleep', '1000'])\n" + GATED
    run = at_first_step(make_bundle, body)

    said = finetui("stop", run.name).stdout

    assert processes.of_run(run.path) == []
    assert ", 0 left" in said


CLOCK = """
import os, pathlib, time
_real = time.time
def _moved():
    try:
        return _real() + float(pathlib.Path(os.environ["CLOCK"]).read_text() or 0)
    except FileNotFoundError:
        return _real()
time.time = _moved
"""


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_jumps_ends_no_run(make_bundle, tmp_path, monkeypatch, jump):
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(CLOCK)
    moved = tmp_path / "moved"
    monkeypatch.setenv("CLOCK", str(moved))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "clock"))
    run = at_first_step(make_bundle)

    moved.write_text(str(jump))
    shown = json.loads(finetui("runs", "--json").stdout)["runs"][0]["status"]
    (run.path / "go").touch()
    steps = [event["step"] for event in follow(run) if event.name == "step"]

    assert shown == "running"
    assert result(run)["status"] == "finished"
    assert sorted(steps) == [1, 2, 3]


def elsewhere(home: Path) -> RunFolder:
    run = make_run("20260101-000001-far", home, status=RUNNING, host="another-machine", pid=1, boot_id="other")
    run.supervisor_events.touch()
    return run


def test_a_run_on_another_machine_is_judged_by_its_heartbeat_and_the_disks_clock(home, monkeypatch):
    run, now = elsewhere(home), time.time()

    for jump in (0, 1e6, -1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        assert run.status() == "running"
    os.utime(run.supervisor_events, (1, 1))
    assert run.status() == "interrupted"


def test_watching_a_run_on_another_machine_ends_only_where_no_beat_comes_for_long(home, monkeypatch):
    run = elsewhere(home)
    clock = [1000.0]
    beats: list[float | None] = [5.0, None, 6.0, None]

    def sleep(seconds: float) -> None:
        clock[0] += 20
        if beats and (beat := beats.pop(0)) is not None:
            os.utime(run.supervisor_events, (beat, beat))

    monkeypatch.setattr(following.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(following.time, "sleep", sleep)

    assert list(follow(run)) == []
    assert clock[0] > 1000 + 3 * 20 + HEARTBEAT_S
    with pytest.raises(FinetuiError) as error:
        stop(run)
    assert error.value.problems[0].code == "runs.elsewhere"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("only root makes disks")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as stream:
        try:
            while stream.write(b"x" * 512):
                pass
        except OSError:
            return


def test_on_a_full_disk_the_state_is_written_again_and_again_and_events_are_lost(small_disk):
    run = make_run("20260101-000001-tiny", small_disk, status=RUNNING)
    run.keep_spare()
    journal = Journal(run)
    fill(small_disk)

    journal.note("sample", text="x" * 5000)
    for pid in range(1, 50):
        journal.set(pid=pid, detail="the last words " * 20)
        assert run.read().pid == pid

    (small_disk / "filler").unlink()
    journal.note("ended")
    lines = run.supervisor_events.read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "ended"


def test_a_run_on_a_disk_that_fills_up_ends_and_says_how(make_bundle, small_disk, monkeypatch):
    made = make_bundle(GATED)
    monkeypatch.setenv("FINETUI_HOME", str(small_disk / "home"))
    (small_disk / "home/cache").mkdir(parents=True)
    trust.remember(made.id)
    run = start(made.path, free_bytes=lambda _: 1 << 40)
    wait_until(lambda: has_step(run, 1), "the first step")
    fill(small_disk)

    done = stop(run)

    assert (done.status, done.left) == ("stopped", 0)
    assert read_state(run)["status"] == "stopped"
    assert find_run("last").status() == "stopped"


def test_a_reboot_in_the_queue_or_at_the_start_is_an_interruption(home):
    for status in ("queued", "starting", "running"):
        run = make_run(f"20260101-000001-{status}", home, status=status)
        me = processes.Identity.of(os.getpid())
        run.write(replace(run.read().held_by(me), boot_id="an earlier boot"))
        assert run.status() == "interrupted"
