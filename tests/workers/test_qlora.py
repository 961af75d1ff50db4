"""Adapters on weights packed in 4 and 8 bits: trained for real on a CPU, and merged into the unpacked original."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetui.core.events import conforms
from finetui.models.merge import merge
from finetui.models.merged import Merged, Quantization, QuantizedBase
from finetui.workers.train import machine
from finetui.workers.train.adapter import attach, load_model
from finetui.workers.train.settings import Lock, read_lock
from tests.workers.test_merge import by_peft, same_bits
from tests.workers.trainee import Trainee, losses, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

NF4, FP4, INT8 = {"load_in_4bit": True}, {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, {"load_in_8bit": True}
SINGLE, BF16, DORA = {"bnb_4bit_use_double_quant": False}, {"dtype": "bfloat16"}, {"use_dora": True}
COMPARED = [ids for ids, _ in make_rows(4, seed=2)]
SETTINGS: dict[str, dict[str, Any]] = {
    "nf4": NF4,
    "nf4-single-bf16": NF4 | SINGLE | BF16,
    "fp4": FP4,
    "fp4-bf16-checkpointed": FP4 | BF16 | {"gradient_checkpointing": True, "bnb_4bit_quant_storage": "bfloat16"},
    "nf4-packed-rows": NF4 | {"packing": True, "rows_per_step": 8},
    "nf4-dora-bf16": NF4 | DORA | BF16,
    "nf4-rslora": NF4 | {"use_rslora": True},
    "nf4-paged-states-in-8-bits": NF4 | {"optim": "paged_adamw_8bit", "r": 64, "lora_alpha": 64.0},
    "int8": INT8,
    "int8-bf16": INT8 | BF16,
    "int8-dora-checkpointed": INT8 | DORA | {"gradient_checkpointing": True},
}


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle of rows that are soon learnt: each counts on from where it begins."""
    rows = [(list(range(first, first + 16)), [-100, *range(first + 1, first + 16)]) for first in range(60, 80)]
    trainee = make_trainee(tmp_path / "tiny.bundle", tiny_model, rows, evaluation=make_rows(5, seed=1))
    trainee.set(num_train_epochs=5, learning_rate=2e-2)
    return trainee


def locked(trainee: Trainee, **settings: Any) -> Lock:
    trainee.set(**settings)
    return read_lock(trainee.folder / "lock.json")


@pytest.fixture
def set_up() -> Iterator[None]:
    """This process as it was, after the trainer has made it deterministic."""
    yield
    torch.use_deterministic_algorithms(False)


def trained(trainee: Trainee, out: Path, **settings: Any) -> Path:
    """Train with these settings; gives the adapter's folder."""
    trainee.set(**settings)
    done = trainee.train(out)
    assert done.returncode == 0, done.stderr
    assert "kernels" not in done.stderr
    assert [problem for event in read_events(out) for problem in conforms(event)] == []
    return out / "output"


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_loss_falls_and_the_adapter_is_in_float32(
    trainee: Trainee, tmp_path: Path, settings: dict[str, Any]
) -> None:
    output = trained(trainee, tmp_path / "out", **settings)
    first, last = losses(tmp_path / "out")[0], losses(tmp_path / "out")[-1]
    assert last < first - 1.0
    tensors = load_file(output / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    parts = 3 if settings.get("use_dora") else 2
    assert len(tensors) == parts * 7 * 2


@pytest.mark.parametrize("settings", [NF4, FP4 | SINGLE, INT8, NF4 | BF16 | DORA], ids=["nf4", "fp4", "int8", "dora"])
def test_packed_weights_stay_as_they_were_packed(trainee: Trainee, settings: dict[str, Any], set_up: None) -> None:
    """Steps by hand under the trainer's own loading, adapter and autocast: nothing but the adapter moves."""
    lock = locked(trainee, **settings)
    machine.set_up(lock.knobs)
    base = load_model(trainee.model, lock)
    model = attach(base, lock.knobs, "tiny").train()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = bits(base)
    began = {name: weight.detach().clone() for name, weight in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    ids = torch.tensor([make_rows(1)[0][0]])
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=lock.knobs.mixed):
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.eval()(input_ids=ids)  # an evaluation once repacked the weights
        model.train()
    assert {name: weight.dtype for name, weight in trained.items()} == dict.fromkeys(trained, torch.float32)
    assert all("lora_" in name for name in trained)
    assert not any(torch.equal(began[name], weight) for name, weight in trained.items())
    assert bits(base).keys() == before.keys()
    assert all(torch.equal(before[name], after) for name, after in bits(base).items())


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every frozen tensor as it lies in memory, the scales of packed weights with them."""
    found = {name: weight.detach().clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    found |= {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            found[f"{name} scales"] = state.absmax.clone()
            if state.nested:
                found[f"{name} scales of scales"] = state.state2.absmax.clone()
        elif isinstance(module, Linear8bitLt):
            found[f"{name} codes"], found[f"{name} scales"] = module.state.CB.clone(), module.state.SCB.clone()
    return found


@pytest.mark.parametrize(("kind", "double"), [("nf4", True), ("nf4", False), ("fp4", True), ("fp4", False)])
def test_all_linear_layers_but_the_output_are_packed_as_asked(trainee: Trainee, kind: str, double: bool) -> None:
    lock = locked(trainee, load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double)
    model = load_model(trainee.model, lock)
    packed = {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    assert len(packed) == 7 * 2
    assert type(model.lm_head) is torch.nn.Linear
    original = load_file(trainee.model / "model.safetensors")
    for name, module in packed.items():
        state = module.weight.quant_state
        assert (state.quant_type, state.nested) == (kind, double)
        codes, expected = quantize_4bit(original[f"{name}.weight"], quant_type=kind, compress_statistics=double)
        assert torch.equal(module.weight.data, codes)
        unpacked = dequantize_4bit(module.weight.data, state)
        assert torch.equal(unpacked, dequantize_4bit(codes, expected))
        hidden = torch.linspace(-1, 1, unpacked.shape[1]).repeat(2, 3, 1)
        assert torch.allclose(module(hidden), hidden @ unpacked.T, atol=1e-6)


def test_rslora_scales_by_the_root_of_the_rank(trainee: Trainee) -> None:
    for rooted, scale in ((False, 8 / 4), (True, 8 / math.sqrt(4))):
        lock = locked(trainee, load_in_4bit=True, use_rslora=rooted)
        model = attach(load_model(trainee.model, lock), lock.knobs, "tiny")
        scales = {m.scaling["default"] for m in model.modules() if isinstance(getattr(m, "scaling", None), dict)}
        assert scales == {scale}


@pytest.mark.parametrize(
    "settings", [NF4 | {"lora_dropout": 0.1}, FP4 | BF16, INT8 | DORA], ids=["nf4", "fp4-bf16", "int8-dora"]
)
def test_two_runs_agree_bit_for_bit(trainee: Trainee, tmp_path: Path, settings: dict[str, Any]) -> None:
    first, second = (trained(trainee, tmp_path / name, **settings) for name in ("first", "second"))
    assert losses(tmp_path / "first") == losses(tmp_path / "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_an_output_layer_is_adapted_unpacked_and_merged(trainee: Trainee, tmp_path: Path, home: Path) -> None:
    adapter = trained(trainee, tmp_path / "out", **NF4, target_modules=["q_proj", "lm_head"])
    merge(adapter, trainee.model, tmp_path / "merged", available_bytes=700_000_001)
    changed = load_file(tmp_path / "merged/model.safetensors")
    assert not torch.equal(changed["lm_head.weight"], load_file(trainee.model / "model.safetensors")["lm_head.weight"])


@pytest.mark.parametrize(
    ("settings", "packed"),
    [
        (FP4 | SINGLE | DORA, Quantization("fp4", False)),
        (INT8 | {"use_rslora": True}, Quantization("int8")),
    ],
    ids=["fp4-dora", "int8-rslora"],
)
def test_merged_into_the_original_as_peft_merges_it_with_the_packed_base_compared(
    trainee: Trainee, tmp_path: Path, home: Path, settings: dict[str, Any], packed: Quantization
) -> None:
    adapter = trained(trainee, tmp_path / "out", **settings)
    merged = merge(
        adapter,
        trainee.model,
        tmp_path / "merged",
        available_bytes=32 << 30,
        rows=COMPARED,
        quantization=packed,
    )
    ours = load_file(tmp_path / "merged/model.safetensors")
    assert same_bits(ours, by_peft(trainee.model, adapter, tmp_path / "peft"))
    assert merged.is_good
    assert merged.kl is not None
    assert merged.kl < 1e-6
    found = merged.quantized_base
    assert found is not None
    assert (found.type, found.why_not) == (packed.type, None)
    base = load_model(trainee.model, locked(trainee, **settings))
    expected = logits(PeftModel.from_pretrained(base, adapter))
    actual = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    apart = (expected - actual).abs()
    assert found.max_logit_difference == pytest.approx(float(apart.max()), rel=1e-3)
    assert found.mean_logit_difference == pytest.approx(float(apart.mean()), rel=1e-3)
    assert found.top1_agreement == pytest.approx(float((expected.argmax(-1) == actual.argmax(-1)).float().mean()))
    divergence = expected.softmax(-1) * (expected.log_softmax(-1) - actual.log_softmax(-1))
    assert found.kl == pytest.approx(float(divergence.sum(-1).mean()), rel=1e-2)
    assert found.kl > merged.kl


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    """[positions, vocabulary] over the rows that are compared."""
    return torch.cat([model.eval()(input_ids=torch.tensor([row])).logits[0] for row in COMPARED])


@pytest.mark.parametrize(("kl", "near"), [(0.01, True), (0.3, False), (None, None)])
def test_a_merge_that_is_far_from_what_was_trained_is_good_and_says_so(kl: float | None, near: bool | None) -> None:
    trained_on = QuantizedBase("nf4", kl, 0.9, 1.0, 0.1)
    facts = {"kl": 1e-4, "adapter_kl": 2.0, "loads_offline": True, "compared_in": "float32"}
    merged = Merged("out", 1, 1, 1.0, "base", **facts, quantized_base=trained_on)
    assert merged.is_good
    assert merged.to_json()["near_trained"] is near


def test_settings_that_contradict_each_other_train_nothing(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(load_in_4bit=True, load_in_8bit=True)
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 1
    assert "load_in_4bit and load_in_8bit are both true" in read_events(tmp_path / "out")[-1]["detail"]


def test_a_base_that_is_packed_already_is_refused(trainee: Trainee, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trainee.model, tmp_path / "gptq"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    trainee.model = folder
    trainee.set(load_in_4bit=True)
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 1
    assert "quantised already (gptq)" in read_events(tmp_path / "out")[-1]["detail"]
