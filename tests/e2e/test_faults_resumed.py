"""What is killed in the midst of two processes' training is resumed, and ends bit for bit as what nobody has killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from finetui.core import events
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.launch import start
from finetui.runs.outcome import problem, result
from finetui.wizard import Draft, lock
from tests.unit.runs.support import has_step, kill, wait_until
from tests.unit.runs.test_faults import CLOCK
from tests.workers.test_runs import _leave_nothing_running, run_to_end  # noqa: F401 (a fixture)

pytestmark = pytest.mark.soak
STEPS, WITHIN = 40, 12
GRACE_S = 60.0
"""What clouds give between the warning and the end is 30 s to 120 s; two shared cores are no cloud."""


@dataclass(frozen=True)
class Unbroken:
    """A bundle for two processes, and what comes of it where nobody is killed."""

    bundle: Path
    id: str
    adapter_sha256: str

    def start(self) -> RunFolder:
        """Run it once more, up to a step in the midst of its training, in the home of now, which has not locked it."""
        run = start(self.bundle, trust=self.id)
        wait_until(lambda: has_step(run, WITHIN), "a step", 300)
        return run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Unbroken:
    """The bundle, run once in a home of its own."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUI_HOME", str(folder / "home"))
        patch.setenv("FINETUI_MODELS", str(tiny_model.parent))
        data = folder / "chats.jsonl"
        with data.open("w") as stream:
            for n in range(16):
                turns = [("user", f"How much is {n} and {n}?"), ("assistant", f"It is {2 * n}.")]
                stream.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
        settings = (f"max_steps={STEPS}", "save_steps=5", "save_total_limit=2", "lora_dropout=0.1")
        settings += ("nproc_per_node=2", "per_device_train_batch_size=2", "omp_num_threads=1")
        draft = Draft((str(data),), str(tiny_model), "cpu-demo", folder / "two.bundle", settings)
        locked = lock(draft)
        outcome = result(run_to_end(locked.path))
    assert (outcome["status"], outcome["world_size"]) == ("finished", 2)
    return Unbroken(locked.path, locked.id, outcome["adapter_sha256"])


@pytest.fixture
def begun(unbroken: Unbroken, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of the bundle in the midst of its training."""
    monkeypatch.setenv("FINETUI_MODELS", str(tiny_model.parent))
    return unbroken.start()


def shell(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a command."""
    done = subprocess.run([sys.executable, "-m", "finetui", *arguments, "--json"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def rank(number: int) -> Callable[[RunFolder], list[int]]:
    """The process of this rank."""
    return lambda run: [
        pid for pid in processes.trainers(run.path) if processes.environment(pid)["LOCAL_RANK"] == str(number)
    ]


def torchrun(run: RunFolder) -> list[int]:
    """The parent of the ranks."""
    stat = Path(f"/proc/{processes.trainers(run.path)[0]}/stat").read_text()
    return [int(stat.rpartition(")")[2].split()[1])]


VICTIMS: dict[str, tuple[Callable[[RunFolder], list[int]], signal.Signals, tuple[str, str | None]]] = {
    "kill -9 of rank 0": (rank(0), signal.SIGKILL, ("failed", "killed")),
    "kill -9 of rank 1": (rank(1), signal.SIGKILL, ("failed", "killed")),
    "kill -9 of torchrun": (torchrun, signal.SIGKILL, ("failed", "killed")),
    "kill -9 of all": (lambda run: processes.of_run(run.path), signal.SIGKILL, ("interrupted", None)),
    "SIGTERM to all": (lambda run: processes.of_run(run.path), signal.SIGTERM, ("stopped", None)),
}


@pytest.mark.parametrize("fault", VICTIMS)
def test_what_is_resumed_ends_as_what_was_never_broken(begun: RunFolder, unbroken: Unbroken, fault: str) -> None:
    victims, how, expected = VICTIMS[fault]
    struck = time.monotonic()
    processes.send(victims(begun), how)

    code, outcome = shell("watch", begun.name)
    seconds = time.monotonic() - struck

    told = problem(begun, outcome)
    print(f"{fault}: over after {seconds:.1f} s, exit {code}, {told.message()}; next: {told.next()}")
    assert (code, outcome["status"], outcome["cause"], processes.of_run(begun.path)) == (1, *expected, [])
    assert seconds < GRACE_S
    assert told.next() == f"finetui resume {begun.name}"
    code, ended = shell("resume", begun.name)
    print(f"{fault}: resumed from step {ended['resumed_from']}, {ended['status']}")
    if how == signal.SIGTERM:
        assert ended["resumed_from"] == outcome["steps"] >= WITHIN, "nothing is lost that was warned of"
    else:
        assert ended["resumed_from"] % 5 == 0
    assert (code, ended["status"], ended["adapter_sha256"]) == (0, "finished", unbroken.adapter_sha256)


def test_a_supervisor_and_a_watcher_that_are_killed_leave_the_training_as_it_is(
    begun: RunFolder, unbroken: Unbroken
) -> None:
    watching = subprocess.Popen([sys.executable, "-m", "finetui", "watch", begun.name], stderr=subprocess.DEVNULL)
    training = processes.trainers(begun.path)
    kill(begun.read().identity)
    os.kill(watching.pid, signal.SIGKILL)
    watching.wait()

    assert processes.trainers(begun.path) == training
    code, outcome = shell("watch", begun.name)
    assert (code, outcome["status"], outcome["resumed_from"]) == (0, "finished", None)
    assert outcome["adapter_sha256"] == unbroken.adapter_sha256
    assert processes.of_run(begun.path) == []


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_jumps_changes_nothing_of_a_training(
    unbroken: Unbroken, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(CLOCK)
    moved = tmp_path / "moved"
    monkeypatch.setenv("CLOCK", str(moved))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "clock"))
    monkeypatch.setenv("FINETUI_MODELS", str(tiny_model.parent))
    run = unbroken.start()

    moved.write_text(str(jump))
    code, outcome = shell("watch", run.name)

    times = [event["time"] for event in events.read(run.events) if event["event"] == "step"]
    assert max(abs(after - before) for before, after in pairwise(times)) > abs(jump) / 2
    print(f"clock {jump:+.0f} s: {outcome['status']}, {outcome['seconds']:.1f} s of training by its own account")
    assert (code, outcome["status"], outcome["adapter_sha256"]) == (0, "finished", unbroken.adapter_sha256)
    assert outcome["seconds"] < abs(jump) / 2
