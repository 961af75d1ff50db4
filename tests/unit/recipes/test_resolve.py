"""Settings that are derived: the value of each for cases worked out by hand, and the reason with its figures."""

from dataclasses import replace
from pathlib import Path

import pytest

from finetui.core.knobs import knobs
from finetui.models.outline import Outline
from finetui.recipes.resolve import resolve
from tests.unit.recipes.planning import (
    GIB,
    HERE,
    QWEN7B,
    planned,
    put,
    recipe,
    request,
    shaped,
    tokens,
    value,
    why,
)

pytestmark = pytest.mark.unit

SHORT = tokens([100] * 900 + [1000] * 100)


@pytest.fixture
def model(tmp_path: Path) -> Outline:
    """Qwen2.5-7B by its config.json."""
    return shaped(tmp_path / "model")


def test_every_knob_of_stage_and_method_has_a_value_and_a_reason(model: Outline) -> None:
    for name, gpus in (("lora-3090", "a100-80g"), ("full-a100x4", "b200:4"), ("dpo-lora", None), ("kto-lora", "h200")):
        made = planned(model, name, gpus=gpus, tokens=SHORT)
        stage, method = made.settled.request.stage, made.settled.request.method
        applicable = {knob.name for knob in knobs().values() if knob.applies(stage, method)}
        assert set(made.settings.choices) == applicable
        for choice in made.settings.choices.values():
            assert choice.why("en")
            assert choice.why("zh")
            assert "{" not in choice.why("en") + choice.why("zh")


@pytest.mark.parametrize(
    ("gpus", "precision", "reason"),
    [
        ("a100-80g", "bfloat16", "a100-80g (compute capability 8.0) has bfloat16"),
        ("t4", "float16", "t4 (compute capability 7.5) has no bfloat16"),
        ("v100-32g", "float16", "v100-32g (compute capability 7.0) has no bfloat16"),
        (None, "float32", "no GPU: float32 is exact"),
    ],
)
def test_precision_is_what_the_hardware_computes_in(
    model: Outline, gpus: str | None, precision: str, reason: str
) -> None:
    made = planned(model, "qlora-3090", gpus=gpus)
    assert value(made, "dtype") == precision
    assert why(made, "dtype").startswith(reason)


def test_flash_attention_is_taken_where_package_and_gpu_have_it(model: Outline) -> None:
    flash = {"flash-attn": "2.8.3", "bitsandbytes": "0.48"}
    made = planned(model, "qlora-3090", gpus="rtx3090", packages=flash)
    assert value(made, "attn_implementation") == "flash_attention_2"
    assert "flash-attn 2.8.3 is installed" in why(made, "attn_implementation")
    assert value(planned(model, "qlora-3090", gpus="t4", packages=flash), "attn_implementation") == "sdpa"
    assert value(planned(model, "qlora-3090", packages=flash), "attn_implementation") == "sdpa"
    assert value(planned(model, "qlora-3090", gpus="rtx3090"), "attn_implementation") == "sdpa"


def test_attention_with_sinks_is_eager(tmp_path: Path) -> None:
    sinks = shaped(tmp_path, model_type="gpt_oss", num_local_experts=8, num_experts_per_tok=2, head_dim=64)
    made = planned(sinks, "lora-3090", gpus="b200")
    assert value(made, "attn_implementation") == "eager"
    assert "attention sinks" in why(made, "attn_implementation")


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8])
def test_the_rows_of_a_step_are_kept_whatever_the_number_of_gpus(model: Outline, gpus: int) -> None:
    made = planned(model, "lora-3090", gpus=f"a100-80g:{gpus}", tokens=SHORT)
    micro, times = value(made, "per_device_train_batch_size"), value(made, "gradient_accumulation_steps")
    assert value(made, "rows_per_step") == 16
    assert value(made, "nproc_per_node") == gpus
    assert 16 <= micro * times * gpus < 16 + micro * gpus  # the last micro batch may be short
    assert value(made, "parallelism") == ("single" if gpus == 1 else "ddp")
    assert made.settled.saving.steps == 3 * 63  # three times ⌈1000 / 16⌉


def test_rows_of_a_step_follow_from_micro_batch_and_accumulation_where_nothing_else_says_them(model: Outline) -> None:
    stated = ("rows_per_step=0", "per_device_train_batch_size=3", "gradient_accumulation_steps=5")
    made = planned(model, "lora-3090", *stated, gpus="a100-80g:2")
    assert value(made, "rows_per_step") == 30
    assert why(made, "rows_per_step") == "micro batch 3 × accumulation 5 × processes 2"


def test_fewer_processes_than_gpus_where_a_step_has_fewer_rows(model: Outline) -> None:
    made = planned(model, "lora-3090", "rows_per_step=3", gpus="a100-80g:8")
    assert value(made, "nproc_per_node") == 3
    assert "only 3 of 8 GPUs" in why(made, "nproc_per_node")


def test_a_recipes_accumulation_gives_way_to_its_rows_per_step_and_says_so(model: Outline, tmp_path: Path) -> None:
    text = (
        '[recipe]\nname = "mine"\nextends = "lora-3090"\n'
        "[train]\nrows_per_step = 16\nper_device_train_batch_size = 2\ngradient_accumulation_steps = 2\n"
    )
    made = planned(model, recipe(text, tmp_path), gpus="a100-80g")
    assert value(made, "gradient_accumulation_steps") == 8
    assert "8, not the recipe's 2" in why(made, "gradient_accumulation_steps")


def test_the_cutoff_is_the_longest_row_as_far_as_the_model_goes(model: Outline) -> None:
    assert value(planned(model, "lora-3090", gpus="a100-80g", tokens=SHORT), "max_length") == 1000
    short = shaped(model.folder.parent / "short", max_position_embeddings=512)
    made = planned(short, "lora-3090", gpus="a100-80g", tokens=SHORT)
    assert (value(made, "max_length"), why(made, "max_length")) == (
        512, "the model takes 512 tokens; the longest row has 1000"
    )  # fmt: skip
    assert value(planned(model, "lora-3090", gpus="a100-80g"), "max_length") == 2048
    assert value(planned(short, "lora-3090", gpus="a100-80g"), "max_length") == 512


def test_a_few_rows_far_too_long_are_given_up_for_the_rest_to_fit(model: Outline) -> None:
    few = planned(model, "lora-3090", gpus="rtx3090", tokens=tokens([300] * 995 + [30000] * 5))
    assert few.fits
    assert 300 < value(few, "max_length") < 30000
    assert "5 of 1000 rows (0.5 %) lose trained tokens" in why(few, "max_length")
    assert few.settled.saving.steps == 3 * 63  # ⌈995 / 16⌉: the five are dropped
    many = planned(model, "lora-3090", gpus="rtx3090", tokens=tokens([300] * 900 + [30000] * 100))
    assert (value(many, "max_length"), many.fits) == (30000, False)


def test_packing_is_taken_where_it_saves_time_and_counted_where_it_is(model: Outline) -> None:
    mixed = planned(model, "lora-3090", gpus="a100-80g", tokens=SHORT)
    assert value(mixed, "packing") is True
    assert why(mixed, "packing").startswith("no padding is computed")
    assert mixed.job.packed
    assert mixed.job.tokens == 1000 * value(mixed, "per_device_train_batch_size")
    assert "as many packs as they take" in why(mixed, "gradient_accumulation_steps")
    even = planned(model, "lora-3090", gpus="a100-80g", tokens=tokens([1000] * 1000))
    assert value(even, "packing") is False
    assert why(even, "packing").startswith("packs would be slower")
    close = planned(
        model, "lora-3090", gpus="a100-80g", tokens=tokens([800, 1000] * 500), packages={"flash-attn": "2.8"}
    )
    assert value(close, "packing") is False
    assert "next to nothing" in why(close, "packing")
    assert value(planned(model, "lora-3090", tokens=SHORT), "packing") is False  # no GPU
    assert "packing" not in planned(model, "dpo-lora", gpus="a100-80g", tokens=SHORT).settings.choices


def test_packs_of_few_short_rows_are_no_longer_than_the_rows(model: Outline) -> None:
    made = planned(model, "lora-3090", "packing=true", "max_length=4096", gpus="a100-80g", tokens=tokens([50] * 100))
    assert made.job.tokens <= 16 * 50


def test_checkpointing_only_where_it_is_needed_or_faster(model: Outline) -> None:
    roomy = planned(model, "qlora-3090", gpus="b200", tokens=tokens([500] * 100))
    assert value(roomy, "gradient_checkpointing") is False
    assert why(roomy, "gradient_checkpointing").startswith("activations fit")
    tight = planned(model, "qlora-3090", gpus="rtx3090")
    assert value(tight, "gradient_checkpointing") is True
    assert "with activations kept it would need" in why(tight, "gradient_checkpointing")


def test_sharded_where_a_whole_model_does_not_fit_one_gpu(model: Outline) -> None:
    alone = planned(model, "full-a100x4", gpus="a100-80g:4")
    assert value(alone, "parallelism") == "fsdp2"
    assert "shared out over 4" in why(alone, "parallelism")
    assert not alone.untrained
    assert "rules.fsdp2-unproven" in [problem.code for problem in alone.warnings]
    sharded = planned(model, "qlora-3090x2", gpus="rtx3090:2")
    assert value(sharded, "bnb_4bit_quant_storage") == "bfloat16"
    assert value(planned(model, "qlora-3090", gpus="rtx3090:2"), "bnb_4bit_quant_storage") == "uint8"


def test_no_plan_fits_whose_upper_edge_is_above_what_is_free(model: Outline) -> None:
    for gpus in ("t4", "rtx3090", "a100-40g", "a100-80g", "rtx3090:4", None):
        for name in ("lora-3090", "qlora-3090", "full-a100x4", "dpo-lora"):
            made = planned(model, name, gpus=gpus)
            assert made.fits == (made.prediction.band[1] <= made.free_bytes)
            assert made.prediction.band[0] <= made.prediction.total_bytes <= made.prediction.band[1]


def test_memory_that_others_hold_is_not_planned_with(model: Outline) -> None:
    made = request(model, "qlora-3090", gpus="rtx3090")
    assert resolve(made).fits
    (gpu,) = made.machine.gpus
    held = replace(made, machine=replace(made.machine, gpus=(replace(gpu, free_bytes=8 * GIB),)))
    assert not resolve(held).fits
    assert resolve(held).free_bytes == 8 * GIB


def test_of_unlike_gpus_the_poorest_counts(model: Outline) -> None:
    made = request(model, "qlora-3090", gpus="a100-80g:2")
    large, other = made.machine.gpus
    poor = replace(other, free_bytes=10 * GIB, total_bytes=11 * GIB, bf16=False, compute_capability=(7, 5))
    mixed = resolve(replace(made, machine=replace(made.machine, gpus=(large, poor))))
    assert (mixed.free_bytes, value(mixed, "dtype")) == (10 * GIB, "float16")


def test_cores_are_shared_out(model: Outline) -> None:
    assert value(planned(model, "qlora-3090"), "omp_num_threads") == HERE.physical_cores == 4
    assert value(planned(model, "qlora-3090", gpus="a100-80g:4"), "omp_num_threads") == 1
    assert value(planned(model, "qlora-3090", gpus="a100-80g:8"), "omp_num_threads") == 1


def test_all_linear_means_the_language_model_alone(tmp_path: Path) -> None:
    vision = {"vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304}}
    text = {**QWEN7B, "model_type": "gemma3_text", "head_dim": 128}
    wrapped = shaped(tmp_path / "w", {"model_type": "gemma3", "text_config": text, **vision})
    made = planned(wrapped, "lora-3090", gpus="b200")
    assert "none of its vision part" in why(made, "target_modules")
    assert str(value(made, "target_modules")).startswith("(?!.*(?:vision|visual")
    experts = shaped(tmp_path / "e", model_type="qwen3_moe", num_experts=8, num_experts_per_tok=2,
                     moe_intermediate_size=768)  # fmt: skip
    made = planned(experts, "lora-3090", gpus="b200")
    assert value(made, "target_modules") == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert value(planned(shaped(tmp_path / "d"), "lora-3090", gpus="b200"), "target_modules") == "all-linear"
    fused = shaped(tmp_path / "f", model_type="phi3")
    assert {"qkv_proj", "gate_up_proj", "o_proj", "down_proj"} == set(fused.layers)


def test_a_config_alone_is_enough_and_cut_shards_are_no_hindrance(tmp_path: Path) -> None:
    folder = put(tmp_path / "m", QWEN7B)
    made = shaped(folder)
    assert (made.has_tokenizer, made.has_weights, made.weight_bytes) == (False, False, None)
    assert made.parameters == 7_615_616_512


def test_what_evaluation_takes_is_counted_by_its_own_rows(model: Outline) -> None:
    long = tokens([900] * 500, held=[900] * 64, trained=10)  # of the rows held out all but ten tokens are learned
    short = replace(long, held=long.train)
    stated = ("per_device_eval_batch_size=32", "per_device_train_batch_size=1", "packing=false")
    evaluated = [
        planned(model, "qlora-3090", *stated, gpus="a100-80g", tokens=rows).prediction for rows in (short, long)
    ]
    positions = 32 * (890 - 10) * 152_064 * 4
    assert evaluated[1].total_bytes - evaluated[0].total_bytes > 0.5 * positions


def test_a_micro_batch_larger_than_a_step_is_the_step(model: Outline) -> None:
    wide = planned(model, "qlora-3090", "rows_per_step=2", "per_device_train_batch_size=64", gpus="rtx3090")
    assert (wide.job.micro_batch, wide.fits) == (2, True)
