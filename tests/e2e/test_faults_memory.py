"""Memory that runs out within a training: the knob to turn is named, the very command is told, and it goes on."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetui.core import events
from finetui.runs import processes
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.launch import start
from finetui.runs.outcome import problem, result
from finetui.runs.state import LIVE
from finetui.wizard import Draft, lock
from tests.unit.runs.support import finetui
from tests.workers.test_runs import _leave_nothing_running  # noqa: F401 (a fixture)

pytestmark = pytest.mark.soak
ROOM_BYTES = 150 << 20
"""Beyond what the smallest micro batch takes; the largest one takes three times as much."""


@pytest.fixture
def bundles(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, Path]:
    """A bundle of micro batches of one row, and one of 32: few of its rows are long, none of them in the first step."""
    monkeypatch.setenv("FINETUI_MODELS", str(tiny_model.parent))
    data = tmp_path / "chats.jsonl"
    with data.open("w") as stream:
        for n in range(256):
            answer = "It is so. " * (90 if n % 64 == 7 else 1) + str(n)
            turns = [("user", f"What of {n}?"), ("assistant", answer)]
            stream.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    made = {}
    for micro in (1, 32):
        settings = ("num_train_epochs=1", "max_length=1024", "rows_per_step=32", "save_steps=1", "omp_num_threads=1")
        settings += (f"per_device_train_batch_size={micro}", "gradient_checkpointing=false")
        draft = Draft((str(data),), str(tiny_model), "cpu-demo", tmp_path / f"{micro}.bundle", settings)
        made[micro] = lock(draft).path
    return made


def largest_heap(run: RunFolder) -> int:
    """Follow a run to its end; gives the most bytes that its trainer had of what RLIMIT_DATA limits."""
    largest = 0
    while run.status() in LIVE:
        for pid in processes.trainers(run.path):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it has just ended
                continue
            if found := re.search(r"VmData:\s+(\d+) kB", status):
                largest = max(largest, int(found[1]) << 10)
        time.sleep(0.02)
    return largest


def test_the_command_that_is_told_ends_a_run_that_ran_out_of_memory(bundles: dict[int, Path]) -> None:
    lean = start(bundles[1])
    limit = largest_heap(lean) + ROOM_BYTES

    def scarce() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    command = [sys.executable, "-m", "finetui", "run", str(bundles[32]), "--plain"]
    failed = subprocess.run(command, preexec_fn=scarce, capture_output=True, text=True, check=False)
    run = find_run("last")
    outcome = result(run)
    steps = outcome["steps"]

    assert (failed.returncode, outcome["status"], outcome["cause"]) == (1, "failed", "out-of-memory"), failed.stderr
    assert 0 < steps < outcome["steps_total"]
    told = problem(run, outcome).next()
    print(f"limit {limit >> 20} MiB: failed in step {steps + 1}; {told}")
    assert f"finetui resume {run.name} --set per_device_train_batch_size=1" in told
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr
    report = (run.path / "report.md").read_text()
    assert told in report

    rest = subprocess.run(
        [sys.executable, "-m", *shlex.split(told), "--json"], preexec_fn=scarce, capture_output=True, text=True
    )

    assert rest.returncode == 0, rest.stderr
    ended = json.loads(rest.stdout)
    assert (ended["status"], ended["resumed_from"]) == ("finished", steps)
    losses = {path: [step["loss"] for step in events.steps(path.events)] for path in (lean, run)}
    assert losses[run] == pytest.approx(losses[lean], rel=1e-5)
    replayed = json.loads(finetui("replay", str(bundles[32]), "--json").stdout)
    print(f"resumed from step {steps}, {ended['status']}; its replay: {replayed['kind']}")
    assert (replayed["kind"], replayed["reproduced"]) == ("equivalent", True)
