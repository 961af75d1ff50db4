"""`finetui resume` with the real trainer: the same run, folder and events, and the result of an unbroken run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from finetui.bundles import evidence
from finetui.core import events
from finetui.core.files import read_json
from finetui.runs import processes
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.launch import start
from finetui.runs.outcome import result
from finetui.runs.replay import compare, expected_of
from finetui.runs.stopping import stop
from tests.unit.runs.support import finetui, has_step, wait_until
from tests.workers.test_runs import _leave_nothing_running, make_bundle, run_to_end  # noqa: F401 (fixtures)

pytestmark = pytest.mark.worker

LONGER = ("num_train_epochs=30", "save_steps=5", "lora_dropout=0.1")


def resume(run: RunFolder, *arguments: str) -> tuple[int, dict]:
    """Exit code and the JSON of `finetui resume`."""
    done = finetui("resume", run.name, "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def stopped(bundle: Path) -> RunFolder:
    """A run of it that was stopped after some steps."""
    run = start(bundle)
    wait_until(lambda: has_step(run, 7), "the seventh step")
    assert stop(run).status == "stopped"
    return run


def test_a_stopped_run_ends_as_an_unbroken_one_and_its_replay_is_exact(make_bundle):  # noqa: F811
    bundle = make_bundle(*LONGER)
    run = stopped(bundle)
    at = result(run)["steps"]

    code, outcome = resume(run)

    assert (code, outcome["status"], outcome["resumed_from"], outcome["run"]) == (0, "finished", at, run.name)
    assert [step["step"] for step in events.steps(run.events)] == list(range(1, outcome["steps_total"] + 1))
    assert evidence.read(bundle).outputs["adapter_model.safetensors"] == outcome["adapter_sha256"]
    again = compare(expected_of(bundle), run_to_end(bundle, kind="replay"))
    assert (again.kind, again.reproduced) == ("exact", True)
    assert resume(run)[0] == 3, "a finished run has nothing left to do"


@pytest.mark.soak
def test_a_killed_run_goes_on_with_less_memory_and_its_replay_is_equivalent(make_bundle):  # noqa: F811
    bundle = make_bundle("num_train_epochs=30", "save_steps=5")
    run = start(bundle)
    wait_until(lambda: has_step(run, 7), "the seventh step")
    processes.send(processes.trainers(run.path), signal.SIGKILL)
    wait_until(lambda: run.status() == "failed", "the end of the run")

    refusal = finetui("resume", run.name, "--set", "learning_rate=1.0", "--json")
    code, outcome = resume(run, "--set", "per_device_train_batch_size=1")

    assert refusal.returncode == 2
    assert json.loads(refusal.stdout)["errors"][0]["code"] == "resume.fixed-knob"
    assert (code, outcome["status"], outcome["resumed_from"] % 5) == (0, "finished", 0)
    rows = read_json(bundle / "lock.json")["rows_per_step"]
    changes = {"gradient_accumulation_steps": rows, "per_device_train_batch_size": 1}
    assert json.loads(run.read().changes) == evidence.read(bundle).changes == changes
    again = compare(expected_of(bundle), run_to_end(bundle, kind="replay"))
    assert (again.kind, again.reproduced) == ("equivalent", True)


def test_a_run_that_lives_or_whose_bundle_is_another_one_is_refused(make_bundle):  # noqa: F811
    bundle = make_bundle("max_steps=1000000", "save_steps=5")
    run = start(bundle)
    wait_until(lambda: has_step(run, 6), "the sixth step")
    assert finetui("resume", run.name).returncode == 3
    stop(run)
    lock = bundle / "lock.json"
    lock.write_text(lock.read_text().replace('"steps"', '"steps" ', 1))

    refusal = finetui("resume", find_run("last").name, "--json")

    assert refusal.returncode == 4
    assert "lock.json" in refusal.stdout
