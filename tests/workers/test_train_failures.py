"""How a training fails: at once, with its cause in the events, and never with something that looks like a result."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetui.core.events import FAILURES, conforms
from finetui.workers.train.bursts import Bursts
from tests.workers.trainee import Trainee, make_rows, make_trainee, read_events, write_rows

pytestmark = pytest.mark.worker


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle of twenty rows."""
    return make_trainee(tmp_path / "tiny.bundle", tiny_model, make_rows(20))


def failure(trainee: Trainee, out: Path, **environment: str) -> dict[str, Any]:
    """Train, and give the `failed` event, after checking that nothing pretends to be a result."""
    done = trainee.train(out, **environment)
    assert done.returncode == 1, done.stderr
    assert not (out / "done.json").exists()
    assert not (out / "output").exists()
    events = read_events(out)
    assert [problem for event in events for problem in conforms(event)] == []
    assert events[-1]["event"] == "failed"
    assert events[-1]["cause"] in FAILURES
    return events[-1]


def break_weights(trainee: Trainee, folder: Path, value: float) -> None:
    """Give the model a copy whose output layer holds `value`, and lock that copy."""
    shutil.copytree(trainee.model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = np.full_like(weights["lm_head.weight"], value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    trainee.model = folder
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    trainee.write_lock(model=trainee.lock["model"] | {"files": {"model.safetensors": digest}})


def test_a_loss_that_is_not_finite_stops_the_first_step(trainee: Trainee, tmp_path: Path) -> None:
    break_weights(trainee, tmp_path / "broken", math.nan)
    trainee.set(save_steps=1)
    failed = failure(trainee, tmp_path / "out")
    assert (failed["cause"], failed["detail"]) == ("nan", "the loss of step 1 is nan")
    assert failed["step"] == 0
    assert [event["event"] for event in read_events(tmp_path / "out")] == ["started", "model_loaded", "failed"]
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []


def test_an_adapter_that_never_moved_is_a_failure(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(learning_rate=1e-60)
    assert failure(trainee, tmp_path / "out")["cause"] == "adapter-never-moved"


def test_settings_that_are_unknown_missing_or_of_another_type_are_all_named(trainee: Trainee, tmp_path: Path) -> None:
    training = trainee.lock["training"] | {
        "neftune_noise_alpha": {"value": 5, "reason": ""},
        "seed": {"value": "7", "reason": ""},
        "gradient_checkpointing": {"value": 1, "reason": ""},
    }
    del training["adam_beta2"]
    trainee.write_lock(training=training)
    detail = failure(trainee, tmp_path / "out")["detail"]
    assert "neftune_noise_alpha is not known" in detail
    assert "adam_beta2 is missing" in detail
    assert "seed cannot be '7'" in detail
    assert "gradient_checkpointing cannot be 1" in detail


def test_another_number_of_processes_than_locked(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(nproc_per_node=2)
    failed = failure(trainee, tmp_path / "out", WORLD_SIZE="1")
    assert failed["cause"] == "world-size"
    assert read_events(tmp_path / "out")[0]["world_size"] == 1


def test_rows_that_are_not_those_of_the_lock(trainee: Trainee, tmp_path: Path) -> None:
    rows = make_rows(20)
    rows[3][1][-1] = -100
    write_rows(trainee.folder / "data" / "train.parquet", rows)
    assert failure(trainee, tmp_path / "out")["cause"] == "data-mismatch"


def test_a_row_without_a_trained_token(trainee: Trainee, tmp_path: Path) -> None:
    rows = [*make_rows(19), ([1, 2, 3], [1, -100, -100])]
    train = write_rows(trainee.folder / "data" / "train.parquet", rows)
    trainee.write_lock(data={"train": train, "eval": None})
    failed = failure(trainee, tmp_path / "out")
    assert (failed["cause"], failed["detail"]) == ("data-mismatch", "train.parquet: row 20 has no trained token")


@pytest.mark.parametrize("change", ["weights", "vocabulary"])
def test_a_model_that_is_not_the_locked_one(trainee: Trainee, tmp_path: Path, change: str) -> None:
    locked = dict(trainee.lock["model"])
    if change == "weights":
        locked["files"] = {"model.safetensors": "0" * 64}
    else:
        locked["vocab_size"] = 511
    trainee.write_lock(model=locked)
    assert failure(trainee, tmp_path / "out")["cause"] == "model-mismatch"


def test_layers_that_the_model_does_not_have(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(target_modules=["nowhere"])
    assert "nowhere" in failure(trainee, tmp_path / "out")["detail"]


def test_a_variable_that_differs_from_the_lock_is_a_warning(trainee: Trainee, tmp_path: Path) -> None:
    trainee.write_lock(environment={"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"})
    assert trainee.train(tmp_path / "out", FINETUI_STOP_AFTER="1", PYTHONHASHSEED="5").returncode == 0
    warnings = [event for event in read_events(tmp_path / "out") if event["event"] == "warning"]
    assert [(event["code"], event["text"]) for event in warnings] == [("environment", "PYTHONHASHSEED=5 (locked: 0)")]


def test_a_full_disk_is_named_in_the_log_when_even_the_events_do_not_fit(trainee: Trainee, tmp_path: Path) -> None:
    done = trainee.train(tmp_path / "out", FINETUI_EVENTS="/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("process 0 failed: disk-full: ")


def test_launch_says_what_is_missing_before_it_starts(trainee: Trainee, tmp_path: Path) -> None:
    bare = tmp_path / "bare python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    out = tmp_path / "out"
    cases = [
        ({"MODEL": ""}, 2, "set MODEL"),
        ({"MODEL": str(tmp_path)}, 2, "not a model folder"),
        ({"PYTHON": str(tmp_path / "nowhere")}, 5, "no interpreter"),
        ({"PYTHON": str(bare)}, 5, "lacks the packages: torch transformers"),
    ]
    for changes, code, words in cases:
        done = trainee.launch(out, **changes)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert not out.exists()


def test_launch_leaves_an_earlier_run_alone(trainee: Trainee, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "done.json").write_text(json.dumps({"v": 1}))
    done = trainee.launch(out)
    assert done.returncode == 2
    assert "OUT holds a run that has ended" in done.stderr


@pytest.mark.parametrize(("method", "kept"), [("lora", "adapter_model.safetensors"), ("full", "model.safetensors")])
def test_weights_that_are_no_numbers_any_more_do_not_take_the_place_of_good_ones(
    tmp_path: Path, tiny_model: Path, method: str, kept: str
) -> None:
    trainee = make_trainee(tmp_path / "tiny.bundle", tiny_model, make_rows(20), method=method)
    trainee.set(learning_rate=1e20, weight_decay=1e20, warmup_steps=2, save_steps=1, save_total_limit=1)
    failed = failure(trainee, tmp_path / "out")
    assert (failed["cause"], failed["step"]) == ("nan", 2)
    assert "hold values that are not finite" in failed["detail"]
    [checkpoint] = (tmp_path / "out" / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-1"
    assert all(np.isfinite(tensor).all() for tensor in load_file(checkpoint / kept).values())


def test_a_gradient_that_bursts_is_told_once_until_it_is_usual_again() -> None:
    norms = [0.5] * 30 + [30.0, math.inf, 40.0] + [0.6] * 5 + [50.0]
    bursts = Bursts()
    found = [(place, usual) for place, norm in enumerate(norms) if (usual := bursts.begins(norm)) is not None]
    assert found == [(30, 0.5), (38, 0.5)]


def test_a_gradient_is_not_said_to_burst_while_nothing_is_usual_or_as_it_falls() -> None:
    bursts = Bursts()
    falling = [1e4 * 0.9**step for step in range(200)]
    assert [bursts.begins(norm) for norm in [0.1, 500.0, 0.1, *falling]] == [None] * 203
