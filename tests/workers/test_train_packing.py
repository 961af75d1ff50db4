"""Rows laid end to end, micro batches and processes: how a step is split changes nothing of what it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from finetui.workers.train.data import collate, lay
from finetui.workers.train.loss import loss_sum
from tests.workers.trainee import Row, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS = make_rows(60)
SPLITS: dict[str, dict[str, Any]] = {
    "8 x 1": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
    "4 x 2": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "2 x 4": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "1 x 8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "3 x 3, the last one short": {
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 3,
        "rows_per_step": 8,
    },
    "packs of 64": {"packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "packs of 192": {"packing": True, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 3}
    | {"rows_per_step": 8},
    "packs of eager attention": {
        "packing": True,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "attn_implementation": "eager",
    },
    "two processes": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "nproc_per_node": 2},
    "packs of two processes": {
        "packing": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "nproc_per_node": 2,
    },
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    "dora": ("lora", {"use_dora": True, "gradient_checkpointing": True}),
    "full": ("full", {}),
}


@pytest.mark.parametrize("kind", METHODS)
def test_no_split_of_a_step_changes_it(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    method, settings = METHODS[kind]
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method=method)
    names = SPLITS if kind == "lora" else ("8 x 1", "packs of 192", "packs of two processes")
    for name in names:
        trainee.set(max_steps=20, learning_rate=1e-3, **settings, **{"nproc_per_node": 1, "packing": False})
        trainee.set(**SPLITS[name])
        done = trainee.train(tmp_path / name)
        assert done.returncode == 0, done.stderr
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    reference = steps(tmp_path / "8 x 1")
    weights = load_file(tmp_path / "8 x 1" / "output" / file)
    assert len(reference) == 20
    for name in names:
        split = steps(tmp_path / name)
        for fact in ("batch_digest", "tokens", "trained_tokens", "learning_rate", "epoch"):
            assert [step[fact] for step in split] == [step[fact] for step in reference], name
        for fact in ("loss", "grad_norm"):
            assert [step[fact] for step in split] == pytest.approx([step[fact] for step in reference], rel=1e-5), name
        for key, value in load_file(tmp_path / name / "output" / file).items():
            assert (value - weights[key]).norm() <= 1e-4 * weights[key].norm(), (name, key)


def steps(out: Path) -> list[dict[str, Any]]:
    """The `step` events of a run."""
    return [event for event in read_events(out) if event["event"] == "step"]


def gradients(model: torch.nn.Module, head: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """All gradients of a batch's loss, end to end."""
    model.zero_grad(set_to_none=True)
    loss_sum(model, head, batch).backward()
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def arrays(rows: list[Row]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows as the trainer reads them."""
    return [(np.array(ids, np.int32), np.array(labels, np.int32)) for ids, labels in rows]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", METHODS)
def test_no_row_of_a_pack_sees_another(tiny_model: Path, kind: str, attention: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation=attention)
    head = model.get_output_embeddings()
    if kind != "full":
        dora, every = kind == "dora", "all-linear"
        model = get_peft_model(model, LoraConfig(r=4, target_modules=every, use_dora=dora, init_lora_weights=False))
    model.train()
    first, *others = arrays(make_rows(4))
    another = arrays(make_rows(1, seed=5))[0]
    alone = sum(gradients(model, head, collate([row])) for row in others)
    for varied in (first, another):
        packed = gradients(model, head, lay([varied, *others])) - gradients(model, head, collate([varied]))
        assert (packed - alone).norm() < 1e-5 * alone.norm()
    pack = lay([another, *others])
    pack["position_ids"] = torch.arange(pack["input_ids"].numel())[None]
    seen = gradients(model, head, pack) - gradients(model, head, collate([another]))
    assert (seen - alone).norm() > 1e-2 * alone.norm()  # where positions do not begin anew, rows do see each other


def test_packs_take_fewer_passes_than_micro_batches(tmp_path: Path, tiny_model: Path) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS)
    calls = []
    for packing in (False, True):
        trainee.set(max_steps=3, per_device_train_batch_size=1, gradient_accumulation_steps=8, packing=packing)
        calls.append(trainee.watch(tmp_path / f"packing {packing}")["sdpa"])
    assert calls[0] == 2 * 8 * 3  # layers × rows of a step × steps
    assert calls[1] <= calls[0] / 2


def test_packs_that_leak_are_refused_before_the_first_step(tmp_path: Path) -> None:
    model = make_bloom(tmp_path / "bloom")
    trainee = make_trainee(tmp_path / "bundle", model, ROWS)
    trainee.write_lock(model=trainee.lock["model"] | {"architecture": "BloomForCausalLM"})
    trainee.set(packing=True, attn_implementation="eager")
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert [event["event"] for event in read_events(tmp_path / "out")] == ["started", "model_loaded", "failed"]
    detail = read_events(tmp_path / "out")[-1]["detail"]
    assert detail.startswith("packing: rows of a pack would see each other in BloomForCausalLM")
    assert detail.endswith("lock it with packing=false")


def make_bloom(folder: Path) -> Path:
    """A model that makes its mask without looking at positions."""
    torch.manual_seed(0)
    config = BloomConfig(hidden_size=64, n_layer=2, n_head=4, vocab_size=512)
    BloomForCausalLM(config).save_pretrained(folder)
    return folder
