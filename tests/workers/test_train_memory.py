"""Settings of memory and speed, obeyed: what is kept, in which types, and that the result is the same or is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.workers.trainee import Trainee, losses, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS = make_rows(20)


def train(folder: Path, model: Path, name: str, method: str = "lora", **settings: Any) -> tuple[dict[str, Any], Path]:
    """Three steps with these settings: what the probe has seen, and the run's folder."""
    trainee = make_trainee(folder / f"{name}.bundle", model, ROWS, method=method)
    trainee.set(**{"max_steps": 3, **settings})
    return trainee.watch(folder / name), folder / name


def refusal(trainee: Trainee, out: Path) -> str:
    """Why it is not trained, and that nothing was loaded for it."""
    done = trainee.train(out)
    assert done.returncode == 1, done.stderr
    assert not (out / "done.json").exists()
    events = read_events(out)
    assert [event["event"] for event in events] == ["started", "failed"]
    detail: str = events[-1]["detail"]
    return detail


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_dropout": 0.1, "use_dora": True},
        {"lora_dropout": 0.1, "dtype": "bfloat16", "packing": True},
        {"method": "full"},
    ],
)
def test_checkpointing_keeps_far_less_and_gives_the_same_bits(
    tmp_path: Path, tiny_model: Path, settings: dict[str, Any]
) -> None:
    without, plain = train(tmp_path, tiny_model, "without", **settings)
    saving, spared = train(tmp_path, tiny_model, "with", gradient_checkpointing=True, **settings)
    assert saving["kept"] < without["kept"] / 3
    assert saving["sdpa"] == 2 * without["sdpa"]  # every layer runs again in the backward pass
    assert losses(spared) == losses(plain)
    assert outputs(spared) == outputs(plain)


def test_attention_is_the_one_that_is_asked_for(tmp_path: Path, tiny_model: Path) -> None:
    seen: dict[str, Any] = {}
    for name in ("sdpa", "eager"):
        seen[name], _ = train(tmp_path, tiny_model, name, attn_implementation=name)
    assert seen["sdpa"]["sdpa"] == 2 * 2 * 3  # layers × micro batches × steps
    assert seen["eager"]["sdpa"] == 0
    assert seen["eager"]["kept"] > seen["sdpa"]["kept"]  # the whole matrix
    assert losses(tmp_path / "eager") == pytest.approx(losses(tmp_path / "sdpa"), rel=1e-6)


def test_what_this_machine_cannot_do_is_refused_by_name_before_anything_is_loaded(
    tmp_path: Path, tiny_model: Path
) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS)
    trainee.set(attn_implementation="flash_attention_2", dtype="float16")
    assert refusal(trainee, tmp_path / "out") == (
        "flash_attention_2 needs a GPU and the package flash-attn; sdpa needs neither; "
        "float16 needs a GPU; on a CPU bfloat16 and float32 compute"
    )


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("lora", {"attn_implementation": "flash_attention_2"}, "flash_attention_2 computes in 16 bits"),
        ("full", {"dtype": "float16", "master_weights": False}, "float16 weights cannot be trained"),
    ],
)
def test_settings_that_go_together_nowhere_are_refused(
    tmp_path: Path, tiny_model: Path, method: str, settings: dict[str, Any], words: str
) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method=method)
    trainee.set(**settings)
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 1
    (failed,) = read_events(tmp_path / "out")
    assert words in failed["detail"]


@pytest.mark.parametrize(
    ("method", "settings", "types"),
    [
        ("lora", {}, {"weights": "float32", "trained": "float32", "computed": "float32", "states": "float32"}),
        (
            "lora",
            {"dtype": "bfloat16"},
            {"weights": "bfloat16", "trained": "float32", "computed": "bfloat16", "states": "float32"},
        ),
        (
            "full",
            {"dtype": "bfloat16"},
            {"weights": None, "trained": "float32", "computed": "bfloat16", "states": "float32"},
        ),
        (
            "full",
            {"dtype": "bfloat16", "master_weights": False},
            {"weights": None, "trained": "bfloat16", "computed": "bfloat16", "states": "bfloat16"},
        ),
    ],
)
def test_weights_computation_and_states_have_the_types_that_are_asked_for(
    tmp_path: Path, tiny_model: Path, method: str, settings: dict[str, Any], types: dict[str, str | None]
) -> None:
    seen, out = train(tmp_path, tiny_model, "run", method, **settings)
    for what, dtype in types.items():
        assert seen[what] == ([f"torch.{dtype}"] if dtype else []), what
    assert losses(out)[0] == pytest.approx(6.2620203, rel=1e-4)


def test_small_updates_of_an_adapter_are_not_lost_in_16_bits(tmp_path: Path, tiny_model: Path) -> None:
    _, out = train(tmp_path, tiny_model, "run", dtype="bfloat16", learning_rate=1e-6, lr_scheduler_type="constant")
    tensors = load_file(out / "output" / "adapter_model.safetensors")
    for name, tensor in tensors.items():
        if "lora_A" in name:
            assert (tensor != tensor.bfloat16().float()).float().mean() > 0.9


def test_master_weights_keep_what_16_bits_round_away(tmp_path: Path, tiny_model: Path) -> None:
    base = load_file(tiny_model / "model.safetensors")
    count = sum(map(torch.numel, base.values()))
    moved = {}
    for kept in (True, False):
        settings = {"dtype": "bfloat16", "master_weights": kept, "learning_rate": 1e-6, "max_steps": 6}
        _, out = train(tmp_path, tiny_model, f"kept {kept}", "full", lr_scheduler_type="constant", **settings)
        after = load_file(out / "output" / "model.safetensors")
        start = {name: tensor if kept else tensor.bfloat16().float() for name, tensor in base.items()}
        moved[kept] = sum(int((after[name] != start[name]).sum()) for name in base) / count
    assert moved[True] > 0.5
    assert moved[False] < 0.2


OPTIMIZERS = {
    "adamw_torch": ("torch.optim.adamw.AdamW", ["torch.float32"]),
    "adamw_torch_fused": ("torch.optim.adamw.AdamW fused", ["torch.float32"]),
    "adamw_bnb_8bit": ("bitsandbytes.optim.adamw.AdamW", ["torch.float32", "torch.uint8"]),
    "paged_adamw_8bit": ("bitsandbytes.optim.adamw.AdamW paged", ["torch.float32", "torch.uint8"]),
    "paged_adamw_32bit": ("bitsandbytes.optim.adamw.AdamW paged", ["torch.float32"]),
    "adafactor": ("transformers.optimization.Adafactor", ["torch.float32"]),
    "sgd": ("torch.optim.sgd.SGD", []),
}


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, tuple[dict[str, Any], Path]]:
    """Full fine-tuning with every optimizer."""
    folder = tmp_path_factory.mktemp("optimizers")
    return {name: train(folder, tiny_model, name, "full", optim=name) for name in OPTIMIZERS}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_runs_and_holds_its_own_states(
    optimized: dict[str, tuple[dict[str, Any], Path]], name: str
) -> None:
    seen, out = optimized[name]
    assert (seen["optimizer"], seen["states"]) == OPTIMIZERS[name]
    reference = losses(optimized["adamw_torch"][1])
    if "adamw" in name:
        assert losses(out) == pytest.approx(reference, rel=1e-4)
    else:
        assert losses(out)[0] == reference[0]
        assert abs(losses(out)[2] - reference[2]) > 0.01


def outputs(out: Path) -> dict[str, str]:
    """SHA-256 of the files of a result."""
    digests: dict[str, str] = json.loads((out / "done.json").read_text())["outputs"]
    return digests
