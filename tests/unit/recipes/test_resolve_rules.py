"""Every rule of what cannot work together, or is probably not meant: when it fires, and what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError
from finetui.hardware.gpu import Holder
from finetui.recipes.resolve import resolve
from finetui.recipes.resolve.rules import rules
from tests.unit.recipes.planning import QWEN7B, machine, request, shaped, tokens, told

pytestmark = pytest.mark.unit

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
LINEAR = {"model_type": "qwen3_next", "full_attention_interval": 4}
SINKS = {"model_type": "gpt_oss", "num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 64}
DATA = tokens([200] * 300)
HELD = tokens([200] * 300, held=[200] * 30)

# rule: (recipe, --set, what else is said of model, machine and data), and words of what it says
REFUSED: dict[str, tuple[str, tuple[str, ...], dict[str, Any], str]] = {
    "packed-checkpoint-full": ("full-a100x4", (), {"config": GPTQ}, "gptq"),
    "packed-checkpoint-again": ("qlora-3090", (), {"config": GPTQ}, "gptq"),
    "four-and-eight-bits": ("qlora-3090", ("load_in_8bit=true",), {}, "both true"),
    "fsdp2-bytes": ("qlora-3090x2", ("bnb_4bit_quant_storage=uint8",), {"gpus": "rtx3090:2"}, "uint8"),
    "fsdp2-other-storage": ("qlora-3090x2", ("bnb_4bit_quant_storage=float32",), {"gpus": "rtx3090:2"}, "float32"),
    "fsdp2-in-8-bits": ("lora-3090", ("parallelism=fsdp2", "load_in_8bit=true"), {"gpus": "rtx3090:2"}, "8-bit"),
    "fsdp2-packed-states": (
        "lora-3090", ("parallelism=fsdp2", "optim=paged_adamw_8bit"), {"gpus": "rtx3090:2"}, "paged_adamw_8bit"
    ),
    "fsdp2-float16": (
        "lora-3090", ("parallelism=fsdp2", "dtype=float16"), {"gpus": "rtx3090:2"}, "dtype is float16"
    ),
    "fsdp2-alone": ("qlora-3090x2", (), {"gpus": "rtx3090"}, "one process"),
    "fsdp2-cpu": ("qlora-3090x2", ("nproc_per_node=2",), {}, "no GPU"),
    "single-of-many": ("lora-3090", ("parallelism=single",), {"gpus": "rtx3090:2"}, "2 processes"),
    "more-than-gpus": ("lora-3090", ("nproc_per_node=3",), {"gpus": "rtx3090:2"}, "there are 2 GPUs"),
    "flash-float32": (
        "lora-3090", ("attn_implementation=flash_attention_2", "dtype=float32"), {"gpus": "rtx3090"}, "float32"
    ),
    "flash-cpu": ("lora-3090", ("attn_implementation=flash_attention_2",), {}, "GPUs alone"),
    "flash-old": ("lora-3090", ("attn_implementation=flash_attention_2",), {"gpus": "t4"}, "t4 has 7.5"),
    "flash-missing": ("lora-3090", ("attn_implementation=flash_attention_2",), {"gpus": "rtx3090"}, "not installed"),
    "no-sdpa": ("lora-3090", ("attn_implementation=sdpa",), {"config": SINKS}, "gpt_oss"),
    "full-in-4-bits": ("full-a100x4", ("load_in_4bit=true",), {"gpus": "b200"}, "trains them all"),
    "full-in-8-bits": ("full-a100x4", ("load_in_8bit=true",), {"gpus": "b200"}, "trains them all"),
    "packs-of-preferences": ("dpo-lora", ("packing=true",), {}, "dpo compares"),
    "no-bfloat16": ("lora-3090", ("dtype=bfloat16",), {"gpus": "v100-32g"}, "v100-32g (compute capability 7)"),
    "float16-full": ("full-a100x4", ("dtype=float16", "master_weights=false"), {"gpus": "a100-80g"}, "vanish"),
    "float16-cpu": ("lora-3090", ("dtype=float16",), {}, "float16"),
    "packs-of-linear-attention": ("lora-3090", ("packing=true",), {"config": LINEAR, "gpus": "rtx3090"}, "qwen3_next"),
    "best-of-nothing": (
        "lora-3090", ("load_best_model_at_end=true", "eval_steps=10"), {"tokens": DATA}, "no evaluation rows"
    ),
    "best-between-checkpoints": (
        "lora-3090",
        ("load_best_model_at_end=true", "eval_steps=10", "save_steps=15"),
        {"tokens": HELD},
        "eval_steps is 10 and save_steps 15",
    ),
    "kto-few": ("kto-lora", ("per_device_train_batch_size=2",), {}, "2 is too few"),
    "rows-do-not-add-up": (
        "lora-3090",
        ("rows_per_step=16", "per_device_train_batch_size=4", "gradient_accumulation_steps=2"),
        {},
        "4 rows × 2 × 1 processes are 8",
    ),
    "too-long": ("lora-3090", ("max_length=40000",), {}, "at most 32768"),
    "no-rows": ("lora-3090", ("max_length=64",), {"tokens": DATA}, "max_length is 64"),
    "no-bitsandbytes": ("qlora-3090", (), {"packages": {}}, "load_in_4bit"),
    "continues-no-text": ("lora-3090", (), {"config": {"architectures": ["BertForMaskedLM"]}}, "BertForMaskedLM"),
}  # fmt: skip
PLANNED: dict[str, tuple[str, tuple[str, ...], dict[str, Any], str]] = {
    "packed-checkpoint-lora": ("lora-3090", (), {"config": GPTQ}, "gptq"),
    "no-trainer": ("dpo-lora", (), {}, "stage dpo"),
    "no-class": ("lora-3090", (), {"config": {"model_type": "baichuan"}}, "baichuan"),
    "no-text-class": (
        "lora-3090", (), {"config": {"model_type": "qwen2_5_vl", "text_config": dict(QWEN7B)}}, "qwen2_5_vl"
    ),
}  # fmt: skip
WARNED: dict[str, tuple[str, tuple[str, ...], dict[str, Any], str]] = {
    "fsdp2-unproven": ("qlora-3090x2", (), {"gpus": "rtx3090:2"}, "has not been run yet"),
    "low-rate": ("lora-3090", ("learning_rate=1e-5",), {}, "learning_rate 1e-05 is low for LoRA"),
    "high-rate": ("lora-3090", ("learning_rate=2e-3",), {}, "0.002"),
    "high-rate-full": ("full-a100x4", ("learning_rate=1e-3",), {"gpus": "b200"}, "0.001"),
    "high-rate-preference": ("dpo-lora", ("learning_rate=5e-4",), {}, "dpo"),
    "one-row": ("lora-3090", ("rows_per_step=1",), {}, "single row"),
    "many-epochs": ("lora-3090", ("num_train_epochs=20",), {"tokens": DATA}, "every one of 300 rows"),
    "small-scale": ("lora-3090", ("r=64", "lora_alpha=8"), {}, "by 0.125"),
    "large-scale": ("lora-3090", ("r=8", "lora_alpha=64"), {}, "by 8"),
    "steps-over-epochs": ("lora-3090", ("max_steps=10",), {}, "max_steps 10"),
    "long-warmup": ("lora-3090", ("max_steps=10", "warmup_steps=8"), {}, "8 is more than half of the 10 steps"),
    "cutoff-loses": ("lora-3090", ("max_length=150",), {"tokens": tokens([100] * 200 + [200])}, "1 of 201 rows"),
    "evaluation-of-nothing": ("lora-3090", ("eval_steps=10",), {"tokens": DATA}, "eval_steps is 10"),
    "never-evaluated": ("lora-3090", ("eval_steps=100",), {"tokens": HELD}, "is 100, and the run has 57 steps"),
    "paged-on-cpu": ("lora-3090", ("optim=paged_adamw_8bit",), {}, "paged_adamw_8bit"),
    "dora-dropout": ("dora-3090", ("lora_dropout=0.1",), {"gpus": "a100-80g"}, "lora_dropout 0.1"),
    "own-code": ("lora-3090", (), {"config": {"model_type": "mystery", "auto_map": {"AutoModel": "m.X"}}}, "mystery"),
    "bitsandbytes-there": ("qlora-3090", (), {"gpus": "rtx3090", "elsewhere": True, "packages": {}}, "load_in_4bit"),
    "disk": ("lora-3090", (), {"gpus": "a100-80g", "free_disk_bytes": 1 << 30}, "1.0 GiB are free"),
    "held": ("lora-3090", (), {"gpus": "a100-80g", "holder": 8 << 30}, "8.0 GiB of a100-80g: python (7)"),
}


def broken(case: tuple[str, tuple[str, ...], dict[str, Any], str], folder: Path) -> Any:
    """The request of a case."""
    name, assignments, others, _ = case
    others = dict(others)
    gpus, holder = others.pop("gpus", None), others.pop("holder", 0)
    model = shaped(folder, **others.pop("config", {}))
    made = request(model, name, *assignments, gpus=gpus, **others)
    if holder:
        (gpu,) = machine(gpus).gpus
        held = replace(gpu, holders=(Holder(7, "python", holder),), free_bytes=gpu.free_bytes - holder)
        made = replace(made, machine=replace(made.machine, gpus=(held,)))
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_its_figures_and_what_would(name: str, tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as error:
        resolve(broken(REFUSED[name], tmp_path))
    (problem,) = [each for each in error.value.problems if each.code == f"rules.{name}"]
    assert REFUSED[name][3] in problem.message("en")
    for language in ("en", "zh"):
        assert problem.expected(language)
        assert str(problem.next(language)).startswith(("finetui ", "pip "))
        assert "{" not in problem.message(language)


@pytest.mark.parametrize("name", [*PLANNED, *WARNED])
def test_what_is_probably_not_meant_is_planned_with_a_warning(name: str, tmp_path: Path) -> None:
    case = {**PLANNED, **WARNED}[name]
    assert case[3] in told(broken(case, tmp_path))[f"rules.{name}"]
    assert (f"rules.{name}" in [problem.code for problem in resolve(broken(case, tmp_path)).untrained]) == (
        name in PLANNED
    )


def test_no_rule_speaks_of_what_is_in_order(tmp_path: Path) -> None:
    quiet = request(shaped(tmp_path), "lora-3090", gpus="a100-80g", tokens=HELD, packages={"flash-attn": "2.8"})
    assert told(quiet) == {}


def test_every_rule_is_tried_here() -> None:
    assert {rule.name for rule in rules()} == {*REFUSED, *PLANNED, *WARNED}
    assert {rule.name for rule in rules() if rule.warns} == set(WARNED)
    assert {rule.name for rule in rules() if rule.planned} == set(PLANNED)


def test_all_that_is_wrong_is_told_at_once_and_another_machine_is_exit_5(tmp_path: Path) -> None:
    model = shaped(tmp_path)
    both = request(model, "lora-3090", "max_length=40000", "dtype=bfloat16", gpus="t4")
    with pytest.raises(FinetuiError) as error:
        resolve(both)
    assert {problem.code for problem in error.value.problems} == {"rules.too-long", "rules.no-bfloat16"}
    assert error.value.exit_code == BAD_INPUT
    with pytest.raises(FinetuiError) as error:
        resolve(request(model, "lora-3090", "dtype=bfloat16", gpus="t4"))
    assert error.value.exit_code == MACHINE


def test_a_rate_for_preferences_is_not_taken_for_that_of_lora(tmp_path: Path) -> None:
    assert "rules.low-rate" not in told(request(shaped(tmp_path), "dpo-lora", gpus="a100-80g"))


def test_four_bits_of_a_full_training_are_refused_where_it_would_be_sharded_too(tmp_path: Path) -> None:
    sharded = request(shaped(tmp_path), "full-a100x4", "load_in_4bit=true", gpus="a100-80g:4")
    assert set(told(sharded)) == {"rules.full-in-4-bits"}
