"""A traced step takes as much memory as the real one: every storage of it counted, on transformers' own classes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from finetui.core.errors import FinetuiError
from finetui.hardware.memory.job import Job
from finetui.workers.trace import __main__ as worker
from finetui.workers.trace import step
from finetui.workers.trace.extend import extend
from finetui.workers.trace.model import DTYPES, attach, build, depths, layers_of
from finetui.workers.trace.storages import PARTS, Peak, Storages
from tests.workers.test_kept_activations import ATTENTION, SETTINGS, WIDE
from tests.workers.test_shapes import CONFIGS

pytestmark = pytest.mark.worker

LORA = Job(r=8, micro_batch=2, tokens=96)
FULL = replace(LORA, method="full")
MIXED = replace(FULL, master_weights=True)
WITHOUT = {"checkpointing": False}
EXPERTS = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe_text", "glm4_moe"),
    *("deepseek_v2", "deepseek_v3", "deepseek_v3-plain-queries", "gemma4-experts", "gpt_oss"),
)
ODD: dict[str, dict[str, Any]] = {  # what these classes need beyond the sizes of all
    **SETTINGS,
    "deepseek_v3-plain-queries": {"head_dim": None},
    "gemma4_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
}


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has no wire to report on."""
    monkeypatch.setattr(worker, "progress", lambda **_: None)


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    asked = {**WIDE, **CONFIGS[name], **ODD.get(name, {}), **changes}
    values = {key: value for key, value in asked.items() if value is not None}
    return json.loads(AutoConfig.for_model(values.pop("model_type", name), **values).to_json_string())


def wire(job: Job) -> dict[str, Any]:
    return {**asdict(job), "rows": job.rows}


def trace(config: dict[str, Any], job: Job, device: str = "cpu", accumulates: bool = False) -> dict[str, Any]:
    return worker.trace({"config": config, "job": wire(job), "device": device, "accumulates": accumulates})


def real(config: dict[str, Any], job: Job) -> Peak:
    """The highest peak of a step with real tensors on the CPU, the optimizer's states there from a step before."""
    torch.manual_seed(0)
    width = torch.float32 if job.master_weights else DTYPES[job.dtype]
    read = AutoConfig.for_model(**config)
    base = AutoModelForCausalLM.from_config(read, dtype=width, attn_implementation=job.attention)
    model = attach(base, wire(job), "cpu")
    head = base.get_output_embeddings()
    if job.checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    counted = Storages("cpu", head.weight.shape[0])
    step.adopt(model, counted)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(0, 512, (job.rows, job.tokens))
    count = job.trained_tokens or job.positions
    mixed = job.mixed and (job.method == "lora" or job.master_weights)
    with counted:
        for _ in range(2):
            counted.peaks.clear()
            computing = torch.autocast("cpu", DTYPES[job.dtype]) if mixed else contextlib.nullcontext()
            with computing, step.only(head, torch.arange(count)):
                logits = model(input_ids=ids, use_cache=False).logits
            logits = logits.float().flatten(0, -2)
            loss = cross_entropy(logits, torch.randint(0, 512, (count,)), reduction="sum") / count
            del logits
            loss.backward()
            del loss
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            stepper.step()
            stepper.zero_grad()
    return counted.peaks[""]


def agrees(config: dict[str, Any], job: Job) -> None:
    assert trace(config, job)["peak_bytes"] == pytest.approx(real(config, job).total, rel=0.003)


@pytest.mark.parametrize(
    "job",
    [
        LORA,
        replace(LORA, **WITHOUT),
        replace(LORA, lora_dropout=0.1, **WITHOUT),
        replace(LORA, dtype="float32", **WITHOUT),
        replace(LORA, attention="eager"),
        replace(LORA, attention="eager", **WITHOUT),
        replace(LORA, trained_tokens=20),
        replace(LORA, use_dora=True),
        replace(LORA, use_dora=True, **WITHOUT),
        FULL,
        replace(FULL, **WITHOUT),
        MIXED,
        replace(MIXED, **WITHOUT),
    ],
    ids=lambda job: " ".join(f"{key}={value}" for key, value in asdict(job).items() if value != getattr(Job(), key)),
)
def test_a_traced_step_holds_what_a_real_one_holds(job: Job) -> None:
    agrees(config_of("llama"), job)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "llama"])
def test_every_architecture_is_traced_as_it_runs(name: str, method: str) -> None:
    job = replace(LORA, method=method, checkpointing=method == "full")
    if name in EXPERTS:
        job = replace(job, targets=(*ATTENTION, "q_a_proj", "q_b_proj"))
    if name == "gpt_oss":
        job = replace(job, attention="eager")  # the class has no other on a CPU
    agrees(config_of(name), job)


@pytest.mark.parametrize("job", [LORA, replace(LORA, **WITHOUT), FULL, replace(FULL, **WITHOUT), MIXED], ids=str)
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama", {}),
        ("gemma3_text", {"layer_types": ["sliding_attention", "full_attention"] * 4}),
        ("qwen3_5_text", {"layer_types": ["linear_attention", "full_attention"] * 4}),
    ],
)
def test_two_depths_extend_to_what_all_layers_take(name: str, changes: dict[str, Any], job: Job) -> None:
    config = config_of(name, num_hidden_layers=8, **changes)
    found = trace(config, job)
    model = build(config, wire(job))
    peaks = step.take(attach(model, wire(job), "cpu"), wire(job), "cpu")
    assert found["layers_traced"][1] < 8
    assert found["peak_bytes"] == max(peak.total for peak in peaks.values())


def test_depths_differ_by_a_whole_period_and_end_as_the_model_does() -> None:
    job = wire(LORA)

    def traced(name: str, **changes: Any) -> tuple[int, int]:
        return depths(layers_of(build(config_of(name, **changes), job)))

    assert traced("llama", num_hidden_layers=40) == (2, 3)
    pattern = ["sliding_attention"] * 5 + ["full_attention"]
    assert traced("gemma3_text", num_hidden_layers=26, layer_types=(pattern * 5)[:26]) == (8, 14)
    assert traced("deepseek_v3", num_hidden_layers=20, first_k_dense_replace=3) == (4, 5)
    assert traced("llama", num_hidden_layers=1) == (1, 1)


def test_the_highest_moment_of_the_whole_need_not_be_that_of_the_two_depths() -> None:
    few = {"loss": peak_of(logits=100), "backward:0": peak_of(activations=20)}
    more = {"loss": peak_of(logits=101), "backward:0": peak_of(activations=40), "backward:1": peak_of(activations=35)}
    assert extend(few, more, (1, 2), 50) == peak_of(activations=20 + 49 * 20)


def peak_of(**parts: int) -> Peak:
    return Peak(sum(parts.values()), dict.fromkeys(PARTS, 0) | parts)


def peak(job: Job, **how: Any) -> int:
    return int(trace(config_of("llama", num_hidden_layers=6, vocab_size=4096), job, **how)["peak_bytes"])


def test_what_saves_memory_saves_it() -> None:
    long = replace(LORA, tokens=512)
    without = replace(long, **WITHOUT)
    assert peak(long) < peak(without) < peak(replace(without, attention="eager"))
    assert peak(replace(without, attention="flash_attention_2"), device="cuda") < peak(without, device="cuda") * 1.01
    assert peak(without) < peak(replace(without, packed=True)) + 1  # packed rows need a mask
    assert peak(replace(long, trained_tokens=8)) < peak(long)
    assert peak(replace(LORA, world_size=2)) > peak(LORA)


def test_optimizers_keep_what_they_say() -> None:
    states = {
        name: trace(config_of("llama"), replace(MIXED, optimizer=name))["parts"]["optimizer"]
        for name in ("adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_32bit", "adafactor", "sgd")
    }
    weights = trace(config_of("llama"), MIXED)["parts"]["weights"]
    assert states["adamw_torch_fused"] == pytest.approx(2 * weights, rel=0.01)
    assert states["paged_adamw_32bit"] == pytest.approx(2 * weights, rel=0.01)
    assert states["adamw_bnb_8bit"] == pytest.approx(weights * 2.03 / 4, rel=0.05)
    assert states["sgd"] < states["adafactor"] < weights


def test_gradients_of_an_earlier_micro_batch_are_held_too() -> None:
    job = replace(FULL, optimizer="adamw_torch_fused", tokens=512, **WITHOUT)
    assert peak(job, accumulates=True) > peak(job)


@pytest.mark.parametrize(("kind", "double", "bits"), [("nf4", True, 4.127), ("nf4", False, 4.5), ("int8", False, 8.2)])
def test_packed_weights_take_as_many_bits_as_bitsandbytes_gives_them(kind: str, double: bool, bits: float) -> None:
    job = replace(LORA, quantization=kind, double_quant=double)
    config = config_of("llama", vocab_size=16, pad_token_id=None)
    packed, plain = (trace(config, one)["parts"]["weights"] for one in (job, LORA))
    assert packed / plain == pytest.approx(bits / 16, rel=0.03)


def test_an_unpacked_weight_is_there_only_while_it_is_used() -> None:
    config = config_of("llama", intermediate_size=4096)
    job = replace(LORA, quantization="nf4", tokens=8, micro_batch=1, **WITHOUT)
    unpacked = 8 * 3 * 2 * 4096 * config["hidden_size"]  # bytes of the MLPs of eight layers
    assert trace({**config, "num_hidden_layers": 8}, job)["parts"]["activations"] < unpacked / 5


@pytest.mark.parametrize(
    ("code", "changes", "job"),
    [
        ("trace.no-class", {"model_type": "baichuan"}, LORA),
        ("trace.not-made", {"hidden_size": "wide"}, LORA),
        ("trace.no-targets", {}, replace(LORA, targets=("W_pack",))),
        ("trace.stage", {}, replace(LORA, stage="dpo")),
        ("trace.sharding", {}, replace(LORA, sharding="fsdp2", world_size=2)),
        ("trace.quantization", {}, replace(LORA, quantization="gptq4")),
    ],
)
def test_what_cannot_be_traced_is_refused_with_its_reason(code: str, changes: dict[str, Any], job: Job) -> None:
    with pytest.raises(FinetuiError) as raised:
        trace({**config_of("llama"), **changes}, job)
    assert [problem.code for problem in raised.value.problems] == [code]
    assert raised.value.problems[0].message("en")


def test_adapters_of_experts_are_refused() -> None:
    with pytest.raises(FinetuiError) as raised:
        trace(config_of("qwen3_moe"), LORA)
    assert raised.value.problems[0].code == "trace.experts"
