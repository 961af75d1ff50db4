"""Faults with the real trainer and the real small model: what is killed, what goes on, what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetui.runs import processes
from finetui.runs.folder import RunFolder
from tests.e2e.shell import Shell
from tests.unit.runs.support import has_step, kill, wait_until

pytestmark = pytest.mark.soak

ENDLESS, SHORT = 100_000, 8
GRACE_S = 60.0
"""What clouds give between the warning and the end is 30 s to 120 s; two shared cores are no cloud."""
AT_REST_S = 200.0
"""How long the supervisor is measured."""


@pytest.fixture(scope="module")
def begin(shell: Shell) -> Iterator[Callable[..., RunFolder]]:
    """`begin(steps)` starts a training of so many steps, and waits for its second."""
    shell("convert", "raw.json", "--out", "data")
    begun: list[RunFolder] = []

    def start(steps: int, *options: str) -> RunFolder:
        bundle = shell.root / f"{steps}.bundle"
        if not bundle.exists():
            settings = (f"max_steps={steps}", "save_steps=0", "rows_per_step=1", "per_device_train_batch_size=1")
            sets = [word for setting in settings for word in ("--set", setting)]
            data = ("--model", "demo", "--data", "data/data.jsonl", "--recipe", "cpu-demo")
            shell("lock", *data, *sets, "--out", str(bundle))
        run = RunFolder(Path(shell("run", str(bundle), "--detach", *options)["folder"]))
        begun.append(run)
        wait_until(lambda: has_step(run, 2), "the second step", 300)
        return run

    yield start
    for run in begun:
        processes.kill_run(run.path)


def ends(shell: Shell, run: RunFolder, code: int) -> dict[str, Any]:
    """What `watch` says at the end; nobody of the run is left then."""
    outcome = shell("watch", run.name, code=code)
    assert processes.of_run(run.path) == []
    return outcome


def complete_checkpoints(run: RunFolder) -> list[str]:
    return sorted(path.parent.name for path in run.checkpoints.glob("checkpoint-*/complete.json"))


def torchrun_and_rank(run: RunFolder) -> tuple[int, int]:
    [rank] = processes.trainers(run.path)
    return int(Path(f"/proc/{rank}/stat").read_text().rpartition(")")[2].split()[1]), rank


def test_stop_saves_and_now_does_not(shell: Shell, begin: Callable[..., RunFolder]) -> None:
    saved, lost = begin(ENDLESS), begin(ENDLESS)

    stopped = shell("stop", saved.name)
    ended = shell("stop", lost.name, "--now")

    print(f"stop {stopped['stop_seconds']:.1f} s of {stopped['processes']}, --now {ended['stop_seconds']:.1f} s")
    for run, said in ((saved, stopped), (lost, ended)):
        assert (said["status"], said["left"], processes.of_run(run.path)) == ("stopped", 0, [])
    assert (stopped["killed"], len(complete_checkpoints(saved))) == ([], 1)
    assert complete_checkpoints(lost) == []


def test_killed_watchers_and_supervisors_cost_nothing(shell: Shell, begin: Callable[..., RunFolder]) -> None:
    run = begin(SHORT)
    watching = subprocess.Popen(
        [sys.executable, "-m", "finetui", "watch", run.name], env=shell.environment, stderr=subprocess.DEVNULL
    )
    watching.kill()
    watching.wait()

    kill(run.read().identity)
    row = next(row for row in shell("runs")["runs"] if row["run"] == run.name)

    assert row["status"] == "running"
    outcome = ends(shell, run, 0)
    assert (outcome["status"], outcome["steps"], run.read().exit_code) == ("finished", SHORT, 0)


def test_an_end_that_nobody_saw_is_known(shell: Shell, begin: Callable[..., RunFolder]) -> None:
    run = begin(SHORT)

    kill(run.read().identity)
    wait_until(lambda: run.read().status == "finished", "the end", 300)

    assert run.read().exit_code == 0
    assert ends(shell, run, 0)["status"] == "finished"


def test_an_orphan_is_stopped_and_saves(shell: Shell, begin: Callable[..., RunFolder]) -> None:
    run = begin(ENDLESS)
    kill(run.read().identity)

    said = shell("stop", run.name)

    assert (said["status"], said["killed"], said["left"]) == ("stopped", [], 0)
    assert len(complete_checkpoints(run)) == 1


@pytest.mark.parametrize("victim", ["rank", "torchrun"])
def test_a_killed_trainer_is_a_failure_and_leaves_nobody(
    shell: Shell, begin: Callable[..., RunFolder], victim: str
) -> None:
    run = begin(ENDLESS)
    torchrun, rank = torchrun_and_rank(run)

    os.kill(rank if victim == "rank" else torchrun, signal.SIGKILL)
    outcome = ends(shell, run, 1)

    assert (outcome["status"], outcome["cause"]) == ("failed", "killed")


def test_hang_ups_do_nothing_and_a_preemption_saves_within_its_grace(
    shell: Shell, begin: Callable[..., RunFolder]
) -> None:
    run = begin(ENDLESS)
    everybody = processes.of_run(run.path)
    processes.send(everybody, signal.SIGHUP)
    step = len(run.events.read_text().splitlines())
    wait_until(lambda: len(run.events.read_text().splitlines()) > step, "a step after the hang-up", 120)
    assert processes.of_run(run.path) == everybody

    warned = time.monotonic()
    processes.send(everybody, signal.SIGTERM)
    outcome = ends(shell, run, 1)

    print(f"preempted: ended after {time.monotonic() - warned:.1f} s with {run.read().exit_code}")
    assert time.monotonic() - warned < GRACE_S
    assert outcome["status"] == "stopped"
    assert len(complete_checkpoints(run)) == 1


def test_on_finish_hears_of_a_failure_after_its_supervisor_was_killed(
    shell: Shell, begin: Callable[..., RunFolder]
) -> None:
    run = begin(ENDLESS, "--on-finish", 'echo "$STATUS" >"$RUN_DIR/told"')
    kill(run.read().identity)
    os.kill(torchrun_and_rank(run)[1], signal.SIGKILL)

    wait_until((run.path / "told").exists, "the call", 120)
    assert (run.path / "told").read_text() == "failed\n"


def test_a_supervisor_at_rest_costs_next_to_nothing(shell: Shell, begin: Callable[..., RunFolder]) -> None:
    run = begin(ENDLESS)
    process = Path(f"/proc/{run.read().pid}")

    def samples() -> int:
        return run.supervisor_events.read_text().count('"sample"')

    def cpu_s() -> float:
        return sum(int(path.read_text().split()[0]) for path in process.glob("task/*/schedstat")) / 1e9

    def written() -> int:
        """Bytes handed to the system, whatever the file."""
        return int((process / "io").read_text().partition("wchar: ")[2].split()[0])

    before, first, began, so_far = cpu_s(), samples(), time.monotonic(), written()
    wait_until(lambda: time.monotonic() - began > AT_REST_S, "the end of the measurement", 2 * AT_REST_S)
    seconds = time.monotonic() - began
    share, rate = (cpu_s() - before) / seconds, (written() - so_far) / seconds * 3600
    resident = (process / "status").read_text().partition("VmRSS:")[2].split()[0]

    taken = samples() - first
    print(f"{share:.5f} of a core, {resident} kB, {rate:.0f} bytes an hour; {taken} samples in {seconds:.0f} s")
    shell("stop", run.name, "--now")
    assert taken >= AT_REST_S / 11
    assert share < 0.005
    assert rate < 1e6
    assert json.loads(run.supervisor_events.read_text().splitlines()[0])["v"] == 1
