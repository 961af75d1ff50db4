"""Training a hand-made bundle for real: what comes out, and that it comes out the same again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetui.core.events import conforms
from tests.workers.trainee import ALONE, Row, Trainee, losses, make_rows, make_trainee, read_events, write_rows

pytestmark = pytest.mark.worker

ROWS = make_rows(20)


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle of twenty rows, in a folder whose name has a space."""
    return make_trainee(tmp_path / "my bundle", tiny_model, ROWS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The output folder of a whole run with evaluation and checkpoints, launched where finetui cannot be imported."""
    base = tmp_path_factory.mktemp("finished run")
    trainee = make_trainee(base / "tiny.bundle", tiny_model, ROWS, evaluation=make_rows(5, seed=1))
    trainee.set(save_steps=2, save_total_limit=2, eval_steps=4)
    (base / "poison").mkdir()
    (base / "poison" / "finetui.py").write_text("raise ImportError('the trainer imports finetui')")
    done = trainee.launch(base / "out", PYTHONPATH=str(base / "poison"))
    assert done.returncode == 0, done.stderr
    return base / "out"


def expected_loss(model: Path, rows: list[Row]) -> float:
    """The untrained model's loss over the trained tokens of these rows, one row at a time, without padding."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    total, count = 0.0, 0
    with torch.no_grad():
        for ids, labels in rows:
            logits = network(input_ids=torch.tensor([ids])).logits[0, :-1].double()
            targets = torch.tensor(labels[1:])
            total += torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum").item()
            count += int((targets != -100).sum())
    return total / count


def in_order(seed: int, epoch: int) -> list[int]:
    """The documented order of an epoch's rows."""
    return sorted(range(len(ROWS)), key=lambda row: hashlib.sha256(f"{seed}:{epoch}:{row}".encode()).digest())


def test_first_loss_is_that_of_the_model_over_the_first_rows_in_order(finished: Path, tiny_model: Path) -> None:
    first = [ROWS[row] for row in in_order(7, 0)[:8]]
    assert losses(finished)[0] == pytest.approx(expected_loss(tiny_model, first), rel=1e-5)


def test_events_tell_the_run_as_the_schema_has_it(finished: Path) -> None:
    events = read_events(finished)
    assert [problem for event in events for problem in conforms(event)] == []
    assert [event["event"] for event in events] == [
        "started", "model_loaded", "step", "step", "checkpoint", "step", "step", "evaluation", "checkpoint", "step",
        "step", "evaluation", "checkpoint", "finished",
    ]  # fmt: skip
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[0]["learning_rate"] == 1e-2
    assert [event["epoch"] for event in steps][2::3] == [1.0, 2.0]
    orders = [in_order(7, epoch) for epoch in range(2)]
    batches = [order[first : first + 8] for order in orders for first in (0, 8, 16)]
    assert [event["tokens"] for event in steps] == [sum(len(ROWS[row][0]) for row in batch) for batch in batches]
    assert sum(event["trained_tokens"] for event in steps) == 2 * sum(len(ids) - len(ids) // 2 for ids, _ in ROWS)
    assert events[0]["world_size"] == 1
    assert events[0]["rows"] == 20


def test_evaluation_is_over_tokens_not_over_batches(trainee: Trainee, tmp_path: Path) -> None:
    rows = [([1, 2, 3, 4], [-100, -100, -100, 4]), *make_rows(2, seed=1)]
    data = trainee.lock["data"] | {"eval": write_rows(trainee.folder / "data" / "eval.parquet", rows)}
    trainee.write_lock(data=data)
    trainee.set(learning_rate=1e-12, max_steps=1)  # the evaluated model is as good as the untrained one
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (evaluation,) = [event for event in read_events(tmp_path / "out") if event["event"] == "evaluation"]
    assert evaluation["loss"] == pytest.approx(expected_loss(trainee.model, rows), rel=1e-5)


def test_done_names_the_files_that_are_there(finished: Path) -> None:
    done = json.loads((finished / "done.json").read_text())
    output = finished / "output"
    assert done["outputs"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}
    assert sorted(done["outputs"]) == ["adapter_config.json", "adapter_model.safetensors"]
    assert done["steps"] == 6
    assert done["final_loss"] == losses(finished)[-1]
    assert not done["stopped_early"]
    assert done["hardware"]["device"] == "cpu"
    assert [path.stat().st_mode & 0o777 for path in output.iterdir()] == [0o644, 0o644]


def test_adapter_names_its_base_by_name_and_holds_float32(finished: Path) -> None:
    config = json.loads((finished / "output" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert config["target_modules"] == sorted(config["target_modules"])
    tensors = load_file(finished / "output" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert len(tensors) == 2 * 7 * 2
    assert not any("lm_head" in name for name in tensors)


def test_newest_checkpoints_are_kept_and_sealed(finished: Path) -> None:
    folders = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert folders == ["checkpoint-4", "checkpoint-6"]
    for name in folders:
        folder = finished / "checkpoints" / name
        marker = json.loads((folder / "complete.json").read_text())
        assert marker["step"] == int(name.removeprefix("checkpoint-"))
        assert set(marker["files"]) == {path.name for path in folder.iterdir()} - {"complete.json"}
        assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} < set(
            marker["files"]
        )
        for file, digest in marker["files"].items():
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest


def test_two_processes_take_the_steps_of_one(trainee: Trainee, finished: Path, tmp_path: Path) -> None:
    trainee.set(per_device_train_batch_size=2, gradient_accumulation_steps=2, nproc_per_node=2)
    done = trainee.launch(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    one, two = (
        [event for event in read_events(out) if event["event"] == "step"] for out in (finished, tmp_path / "out")
    )
    for fact in ("batch_digest", "tokens", "trained_tokens", "learning_rate", "epoch"):
        assert [step[fact] for step in two] == [step[fact] for step in one]
    for fact in ("loss", "grad_norm"):
        assert [step[fact] for step in two] == pytest.approx([step[fact] for step in one], rel=1e-5)
    assert read_events(tmp_path / "out")[0]["world_size"] == 2


def test_stop_after_ends_early_with_the_schedule_unchanged(trainee: Trainee, finished: Path, tmp_path: Path) -> None:
    done = trainee.train(tmp_path / "out", FINETUI_STOP_AFTER="2")
    assert done.returncode == 0, done.stderr
    steps = [event for event in read_events(tmp_path / "out") if event["event"] == "step"]
    whole = [event for event in read_events(finished) if event["event"] == "step"]
    assert [step["learning_rate"] for step in steps] == [step["learning_rate"] for step in whole[:2]]
    assert [step["loss"] for step in steps] == [step["loss"] for step in whole[:2]]
    record = json.loads((tmp_path / "out" / "done.json").read_text())
    assert (record["stopped_early"], record["steps"]) == (True, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "bfloat16", "gradient_checkpointing": True, "target_modules": ["q_proj", "lm_head"]},
        {"max_steps": 3, "warmup_steps": 0.5, "lr_scheduler_type": "cosine", "max_grad_norm": 0.0},
    ],
)
def test_settings_train(trainee: Trainee, tmp_path: Path, settings: dict[str, object]) -> None:
    trainee.set(**settings)
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "out")) == settings.get("max_steps", 6)
    tensors = load_file(tmp_path / "out" / "output" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_sigterm_saves_a_checkpoint_and_leaves_no_output(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(max_steps=100_000)
    out = tmp_path / "out"
    command = ["bash", str(trainee.folder / "launch.sh")]
    with subprocess.Popen(command, env=trainee.environment(out), stderr=subprocess.PIPE) as launched:
        deadline = time.monotonic() + 120
        while not (out / "events.jsonl").exists() or not losses(out):
            assert launched.poll() is None
            assert time.monotonic() < deadline
            os.sched_yield()
        launched.send_signal(signal.SIGTERM)
        launched.communicate(timeout=120)
    assert launched.returncode == 75
    events = read_events(out)
    assert [event["event"] for event in events[-2:]] == ["checkpoint", "warning"]
    assert events[-1]["code"] == "stopped"
    assert (out / events[-2]["path"] / "complete.json").is_file()
    assert not (out / "done.json").exists()
    assert not (out / "output").exists()


def test_the_trainer_alone_ends_with_75_when_stopped(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(max_steps=100_000)
    out = tmp_path / "out"
    environment = trainee.environment(out, **ALONE)
    command = [sys.executable, "-m", "train.main"]
    with subprocess.Popen(command, cwd=trainee.folder, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (out / "events.jsonl").exists() or not losses(out):
            assert process.poll() is None
            assert time.monotonic() < deadline
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 75
