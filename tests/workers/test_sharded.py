"""FSDP2 for real, on gloo: a model shared out over processes trains, resumes and is saved as a whole one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.workers.trainee import Trainee, losses, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS = make_rows(60)
SHARES: dict[str, Any] = {
    "parallelism": "fsdp2",
    "nproc_per_node": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"gradient_checkpointing": True}),
    "dora": ("lora", {"use_dora": True}),
    "full": ("full", {}),
    "bfloat16": ("full", {"dtype": "bfloat16"}),
    "packed": ("lora", {"packing": True}),
}


def results(out: Path) -> Path:
    """The weights that came out."""
    return next((out / "output").glob("*.safetensors"))


def trained(trainee: Trainee, out: Path, **environment: str) -> Path:
    """Train to the end."""
    done = trainee.train(out, **environment)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("kind", METHODS)
def test_shared_out_as_alone(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    method, settings = METHODS[kind]
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method=method)
    trainee.set(max_steps=8, learning_rate=1e-3, **settings)
    alone = trained(trainee, tmp_path / "alone")
    trainee.set(max_steps=8, learning_rate=1e-3, **{**settings, **SHARES})
    shared = trained(trainee, tmp_path / "shared")
    tolerance = 2e-2 if kind == "bfloat16" else 1e-5
    assert losses(shared) == pytest.approx(losses(alone), rel=tolerance)
    norms = [[event["grad_norm"] for event in read_events(out) if event["event"] == "step"] for out in (shared, alone)]
    assert norms[0] == pytest.approx(norms[1], rel=10 * tolerance)
    whole = load_file(results(alone))
    made = load_file(results(shared))
    assert made.keys() == whole.keys()
    for name, value in made.items():
        assert value.shape == whole[name].shape
        assert (value - whole[name]).norm() <= max(1e-3, tolerance) * whole[name].norm(), name


@pytest.mark.parametrize("method", ["lora", "full"])
def test_goes_on_from_shares(tmp_path: Path, tiny_model: Path, method: str) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, make_rows(6, seed=1), method=method)
    dropout = {"lora_dropout": 0.1} if method == "lora" else {}
    trainee.set(max_steps=6, save_steps=2, eval_steps=2, load_best_model_at_end=True, **SHARES, **dropout)
    straight = trained(trainee, tmp_path / "straight")
    broken = trained(trainee, tmp_path / "broken", FINETUI_STOP_AFTER="4")
    for left in ("done.json", "output/adapter_model.safetensors", "output/model.safetensors"):
        (broken / left).unlink(missing_ok=True)
    files = {path.name for path in (broken / "checkpoints" / "checkpoint-4").rglob("*") if path.is_file()}
    assert {"__0_0.distcp", "__1_0.distcp", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"} <= files
    trained(trainee, broken, FINETUI_RESUME="newest")
    assert [event["resumed_from"] for event in read_events(broken) if "resumed_from" in event] == [4]
    assert losses(broken) == losses(straight)
    assert results(broken).read_bytes() == results(straight).read_bytes()


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.soak), "bfloat16"])
def test_packed_weights_shared_out(tmp_path: Path, tiny_model: Path, dtype: str) -> None:
    pytest.importorskip("bitsandbytes")
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS)
    packed = {"load_in_4bit": True, "max_steps": 6, "learning_rate": 1e-3, "gradient_checkpointing": True}
    packed |= {"dtype": dtype, "bnb_4bit_quant_storage": dtype}
    trainee.set(**packed)
    alone = trained(trainee, tmp_path / "alone")
    trainee.set(**packed, **SHARES)
    shared = trained(trainee, tmp_path / "shared")
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-5 if dtype == "float32" else 5e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"load_in_4bit": True}, "bnb_4bit_quant_storage is the dtype, float32"),
        ({"load_in_8bit": True}, "weights in 8 bits"),
        ({"optim": "adamw_8bit"}, "the states of adamw_8bit"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    tmp_path: Path, tiny_model: Path, settings: dict[str, Any], words: str
) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS)
    trainee.set(**SHARES, **settings)
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 1
    assert words in read_events(tmp_path / "out")[-1]["detail"]
