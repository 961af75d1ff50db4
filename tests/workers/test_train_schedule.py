"""How long, how fast and what is kept: steps, learning rates, decay, clipping, checkpoints and the best of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import make_tiny_model
from tests.workers.trainee import Trainee, losses, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS = make_rows(20)


def train(trainee: Trainee, out: Path, **settings: Any) -> list[dict[str, Any]]:
    """Train with these settings; gives the `step` events."""
    trainee.set(**settings)
    done = trainee.train(out)
    assert done.returncode == 0, done.stderr
    return [event for event in read_events(out) if event["event"] == "step"]


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle of twenty rows, three steps an epoch."""
    return make_trainee(tmp_path / "bundle", tiny_model, ROWS)


@pytest.fixture
def whole(tmp_path: Path, tiny_model: Path) -> Trainee:
    """The same for full fine-tuning."""
    return make_trainee(tmp_path / "bundle", tiny_model, ROWS, method="full")


RATES = {
    ("linear", 0): [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
    ("linear", 2): [0, 1 / 2, 1, 3 / 4, 2 / 4, 1 / 4],
    ("cosine", 0): [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)],
    ("cosine", 0.5): [0, 1 / 3, 2 / 3, 1, 3 / 4, 1 / 4],
    ("constant", 2): [1] * 6,
    ("constant_with_warmup", 2): [0, 1 / 2, 1, 1, 1, 1],
}
"""Shares of the learning rate by schedule and warm-up (steps; below 1 a share of all)."""


@pytest.mark.parametrize(("schedule", "warmup"), RATES)
def test_learning_rates_follow_the_schedule(trainee: Trainee, tmp_path: Path, schedule: str, warmup: float) -> None:
    steps = train(trainee, tmp_path / "out", lr_scheduler_type=schedule, warmup_steps=warmup, learning_rate=1e-3)
    assert [step["learning_rate"] for step in steps] == pytest.approx(
        [1e-3 * share for share in RATES[schedule, warmup]], abs=1e-12
    )


@pytest.mark.parametrize(
    ("settings", "count", "epoch"),
    [
        ({"num_train_epochs": 1}, 3, 1.0),
        ({"num_train_epochs": 0.5}, 2, 2 / 3),
        ({"num_train_epochs": 9, "max_steps": 4}, 4, 4 / 3),
        ({"max_steps": 7, "num_train_epochs": 1}, 7, 7 / 3),
    ],
)
def test_epochs_or_steps(trainee: Trainee, tmp_path: Path, settings: dict[str, Any], count: int, epoch: float) -> None:
    epochs = settings["num_train_epochs"]
    trainee.set(**{**settings, "num_train_epochs": 1 if epochs == 0.5 else epochs})
    trainee.lock["training"]["num_train_epochs"]["value"] = epochs
    trainee.write_lock(steps=count)
    assert trainee.train(tmp_path / "out").returncode == 0
    steps = [event for event in read_events(tmp_path / "out") if event["event"] == "step"]
    assert len(steps) == count
    assert steps[-1]["epoch"] == pytest.approx(epoch)
    tokens = sum(len(ids) for ids, _ in ROWS)
    if count >= 3:  # every row once in an epoch
        assert sum(step["tokens"] for step in steps[:3]) == tokens


def test_decay_spares_norms(whole: Trainee, tiny_model: Path, tmp_path: Path) -> None:
    rate, decay = 1e-3, 0.5
    for name, value in (("with", decay), ("without", 0.0)):
        train(whole, tmp_path / name, weight_decay=value, max_steps=1, learning_rate=rate)
    before = load_file(tiny_model / "model.safetensors")
    decayed, plain = (load_file(tmp_path / name / "output" / "model.safetensors") for name in ("with", "without"))
    for name, tensor in before.items():
        lost = torch.zeros_like(tensor) if "norm" in name else rate * decay * tensor
        torch.testing.assert_close(plain[name] - decayed[name], lost, rtol=0, atol=5e-8, msg=name)


def test_gradients_are_clipped_to_the_norm(whole: Trainee, tiny_model: Path, tmp_path: Path) -> None:
    before = load_file(tiny_model / "model.safetensors")
    moved = {}
    for limit in (0.0, 1e-2, 1e3):
        (step,) = train(whole, tmp_path / str(limit), max_grad_norm=limit, max_steps=1, optim="sgd", learning_rate=0.1)
        after = load_file(tmp_path / str(limit) / "output" / "model.safetensors")
        moved[limit] = sum(float((after[name] - before[name]).pow(2).sum()) for name in before) ** 0.5
        assert step["grad_norm"] > 0.1  # told as it was, before it is clipped
    assert moved[1e-2] == pytest.approx(0.1 * 1e-2, rel=1e-3)
    assert moved[0.0] == moved[1e3] == pytest.approx(0.1 * step["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_best_checkpoint_is_the_result(tmp_path: Path, tiny_model: Path, method: str) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, evaluation=make_rows(5, seed=1), method=method)
    saving = {"save_steps": 1, "eval_steps": 1, "load_best_model_at_end": True, "save_total_limit": 1}
    train(trainee, tmp_path / "out", learning_rate=0.1, lr_scheduler_type="constant", **saving)
    events = read_events(tmp_path / "out")
    evaluations = {event["step"]: event["loss"] for event in events if event["event"] == "evaluation"}
    least = min(evaluations, key=lambda step: evaluations[step])
    (best,) = [event for event in events if event["event"] == "best"]
    assert least < 6  # it over-fits
    assert (best["step"], best["loss"]) == (least, evaluations[least])
    file = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    result, kept = load_file(tmp_path / "out" / "output" / file), load_file(tmp_path / "out" / best["path"] / file)
    assert all(torch.equal(result[name], kept[name]) for name in result)
    folders = {path.name for path in (tmp_path / "out" / "checkpoints").iterdir()}
    assert folders == {"checkpoint-6", f"checkpoint-{least}"}

    train(trainee, tmp_path / "last", load_best_model_at_end=False)
    last = load_file(tmp_path / "last" / "output" / file)
    assert not all(torch.equal(result[name], last[name]) for name in result)
    assert [path.name for path in (tmp_path / "last" / "checkpoints").iterdir()] == ["checkpoint-6"]


def test_an_evaluation_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    broken = make_tiny_model(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][400] = math.nan  # an id of the evaluation row alone
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    trainee = make_trainee(tmp_path / "bundle", broken, ROWS, evaluation=[([1, 400, 3], [-100, -100, 3])])
    saving = {"save_steps": 2, "eval_steps": 2, "load_best_model_at_end": True}
    train(trainee, tmp_path / "out", **saving)
    events = read_events(tmp_path / "out")
    assert [event["loss"] for event in events if event["event"] == "evaluation"] == [None] * 3
    assert [event for event in events if event["event"] == "best"] == []
    markers = (tmp_path / "out" / "checkpoints").glob("*/complete.json")
    assert [json.loads(path.read_text())["evaluation_loss"] for path in markers] == [None, None]
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"load_best_model_at_end": True}, "load_best_model_at_end needs eval_steps and save_steps"),
        (
            {"load_best_model_at_end": True, "eval_steps": 2, "save_steps": 3},
            "save_steps 3 is no multiple of eval_steps 2",
        ),
    ],
)
def test_the_best_is_refused_where_not_every_checkpoint_is_evaluated(
    tmp_path: Path, tiny_model: Path, settings: dict[str, Any], words: str
) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, evaluation=make_rows(3))
    trainee.set(**settings)
    assert trainee.train(tmp_path / "out").returncode == 1
    assert words in read_events(tmp_path / "out")[-1]["detail"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_pre_training_trains_every_token_after_the_first(tmp_path: Path, tiny_model: Path, method: str) -> None:
    rows = [(ids, list(ids)) for ids, _ in ROWS]
    trainee = make_trainee(tmp_path / "bundle", tiny_model, rows, method=method)
    trainee.write_lock(stage="pt")
    steps = train(trainee, tmp_path / "out", packing=True, max_steps=3, lr_scheduler_type="constant")
    assert sum(step["trained_tokens"] for step in steps) == sum(len(ids) - 1 for ids, _ in rows)
    assert losses(tmp_path / "out")[0] == pytest.approx(math.log(512), rel=0.05)  # random weights


@pytest.mark.parametrize(("stage", "method"), [("dpo", "lora"), ("sft", "prompt")])
def test_stages_and_methods_that_have_no_trainer_are_refused(
    trainee: Trainee, tmp_path: Path, stage: str, method: str
) -> None:
    trainee.write_lock(stage=stage, method=method)
    assert trainee.train(tmp_path / "out").returncode == 1
    detail = f"this trainer does lora and full for sft and pt, not {method} for {stage}"
    assert read_events(tmp_path / "out")[-1]["detail"] == detail
