"""Runs with the real trainer under torch.distributed.run, on a tiny real model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetui.bundles.evidence import read
from finetui.bundles.verify import verify
from finetui.core.files import sha256_file
from finetui.runs import processes
from finetui.runs.folder import RunFolder, find_run, list_runs
from finetui.runs.following import follow
from finetui.runs.launch import start
from finetui.runs.outcome import problem, result
from finetui.runs.replay import compare, expected_of
from finetui.runs.stopping import stop
from finetui.wizard import Draft, lock
from tests.unit.runs.support import Terminal, finetui, has_step, kill, wait_until

pytestmark = pytest.mark.worker

LONG = ("max_steps=1000000", "save_steps=0")


@pytest.fixture
def make_bundle(home, tmp_path, tiny_model, monkeypatch):
    """`make_bundle("knob=value", …)` locks 16 short chats for the tiny model."""

    def make(*assignments: str, model: Path = tiny_model) -> Path:
        monkeypatch.setenv("FINETUI_MODELS", str(model.parent))
        data = tmp_path / "chats.jsonl"
        with data.open("w") as stream:
            for n in range(16):
                turns = [("user", f"How much is {n} and {n}?"), ("assistant", f"It is {2 * n}.")]
                messages = [{"role": role, "content": text} for role, text in turns]
                stream.write(json.dumps({"messages": messages}) + "\n")
        settings = ("num_train_epochs=2", "omp_num_threads=1", *assignments)
        return lock(Draft((str(data),), str(model), "cpu-demo", tmp_path / "tiny.bundle", settings)).path

    return make


@pytest.fixture(autouse=True)
def _leave_nothing_running(home):
    yield
    for run in list_runs():
        processes.kill_run(run.path)


def run_to_end(bundle: Path, **choices) -> RunFolder:
    run = start(bundle, **choices)
    list(follow(run))
    return run


def test_a_first_run_leaves_evidence_and_its_replay_is_exact_bit_for_bit(make_bundle):
    bundle = make_bundle()
    first = run_to_end(bundle)

    outcome = result(first)
    assert outcome["status"] == "finished", problem(first, outcome).message()
    assert outcome["adapter_sha256"] == sha256_file(first.output / "adapter_model.safetensors")
    assert verify(bundle)["ok"] is True
    assert read(bundle).outputs["adapter_model.safetensors"] == outcome["adapter_sha256"]

    again = compare(expected_of(bundle), run_to_end(bundle, kind="replay"))
    assert (again.kind, again.reproduced, again.differences) == ("exact", True, ())
    begun = compare(expected_of(bundle), run_to_end(bundle, kind="replay", stop_after=2))
    assert (begun.kind, begun.reproduced, begun.steps) == ("exact", True, 2)


def test_a_closed_terminal_does_not_end_the_training_and_watch_sees_its_end(make_bundle):
    terminal = Terminal("run", make_bundle("num_train_epochs=40"))
    terminal.read_until("tokens/s")
    terminal.close()
    os.waitpid(terminal.pid, 0)

    watched = finetui("watch", "last", "--plain")

    assert watched.returncode == 0, watched.stderr
    steps = [line.split()[1] for line in watched.stderr.splitlines() if line.startswith("step ")]
    assert steps == [str(n + 1) for n in range(find_run("last").read().steps_total)]


def test_stop_saves_a_checkpoint_and_leaves_no_process(make_bundle):
    run = start(make_bundle(*LONG))
    wait_until(lambda: has_step(run, 2), "the second step")

    done = stop(run)

    assert (done.status, done.killed) == ("stopped", ())
    assert processes.of_run(run.path) == []
    assert len(list((run.path / "checkpoints").glob("checkpoint-*/complete.json"))) == 1
    assert result(run)["status"] == "stopped"


def test_a_killed_supervisor_leaves_a_training_that_stop_lets_save(make_bundle):
    run = start(make_bundle(*LONG))
    wait_until(lambda: has_step(run, 1), "the first step")

    kill(run.read().identity)
    left = processes.of_run(run.path)
    done = stop(run)

    assert len(left) >= 2, "torchrun and its worker outlive the supervisor"
    assert (done.status, done.killed, done.left) == ("stopped", (), 0)
    assert len(list((run.path / "checkpoints").glob("checkpoint-*/complete.json"))) == 1


def test_weights_that_are_no_numbers_fail_the_run_as_nan(make_bundle, tiny_model, tmp_path):
    broken = tmp_path / "models" / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    save_file(
        {**weights, "lm_head.weight": weights["lm_head.weight"] * np.float32(np.nan)}, broken / "model.safetensors"
    )

    run = run_to_end(make_bundle(model=broken))

    outcome = result(run)
    assert (outcome["status"], outcome["cause"]) == ("failed", "nan"), outcome
    assert "no longer a number" in problem(run, outcome).message("en")
    assert not run.output.exists()


def test_an_adapter_that_never_moved_is_a_failure(make_bundle):
    run = run_to_end(make_bundle("learning_rate=1e-50"))

    outcome = result(run)
    assert (outcome["status"], outcome["cause"]) == ("failed", "adapter-never-moved"), outcome
    assert not Path(run.read().bundle, "evidence").exists()
