"""The prediction of memory moves as memory does, adds up, and keeps to what was measured elsewhere."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetui.core.messages import t
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.predict import PARTS, predict
from finetui.hardware.memory.shape import Shape, UnusableConfig, shape_of
from finetui.hardware.memory.state import adapter_parameters

pytestmark = pytest.mark.unit

GIB = 1 << 30
ROOT = Path(__file__).parents[3]
FIGURES = ROOT.parent / "shared" / "memory-figures.csv"
CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
QLORA = Job(quantization="nf4", double_quant=True, trained_tokens=512)


@pytest.fixture(scope="module")
def seven() -> Shape:
    return shape_of(CONFIG)


def total(shape: Shape, job: Job, **changes: Any) -> int:
    return predict(shape, replace(job, **changes), "a100-80g").total_bytes


def test_the_shape_of_a_published_model_has_its_published_size(seven: Shape) -> None:
    assert seven.parameters == 7_615_616_512  # of Qwen2.5-7B
    assert (seven.layers, seven.known, seven.tied) == (28, True, False)


def test_the_parts_add_up_to_the_total_and_lie_inside_the_band(seven: Shape) -> None:
    for job in (Job(), QLORA, Job(method="full"), Job(micro_batch=4, checkpointing=False), Job(varied=True)):
        prediction = predict(seven, job, "a100-80g")
        assert tuple(prediction.parts) == PARTS
        assert prediction.total_bytes == pytest.approx(sum(prediction.parts.values()), abs=len(PARTS))
        low, high = prediction.band
        assert low < prediction.total_bytes < high
        assert prediction.fits(high)
        assert not prediction.fits(high - 1)


def test_seven_billion_weights_fit_24_gb_in_four_bits_and_not_in_full(seven: Shape) -> None:
    assert predict(seven, QLORA, "rtx3090").fits(24 * GIB)
    assert not predict(seven, replace(QLORA, method="full", quantization=None), "rtx3090").fits(24 * GIB)


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"tokens": 4096}, {"tokens": 2048}),
        ({"micro_batch": 4}, {"micro_batch": 1}),
        ({"checkpointing": False}, {"checkpointing": True}),
        ({"attention": "eager", "tokens": 8192}, {"attention": "sdpa", "tokens": 8192}),
        ({"r": 128}, {"r": 8}),
        ({"targets": "all-linear"}, {"targets": ("q_proj", "v_proj")}),
        ({"quantization": None}, {"quantization": "int8"}),
        ({"quantization": "int8"}, {"quantization": "nf4"}),
        ({"quantization": "nf4"}, {"quantization": "nf4", "double_quant": True}),
        ({"dtype": "float32"}, {"dtype": "bfloat16"}),
        ({"trained_tokens": None, "tokens": 4096}, {"trained_tokens": 100, "tokens": 4096}),
        ({"use_dora": True}, {"use_dora": False}),
        ({"modules_to_save": ("embed_tokens",)}, {"modules_to_save": ()}),
        ({"stage": "dpo", "tokens": 4096}, {"stage": "sft", "tokens": 4096}),
        ({"eval_batch": 32, "tokens": 2048}, {"eval_batch": 0, "tokens": 2048}),
        ({"method": "full"}, {"method": "lora"}),
        ({"method": "full", "master_weights": True}, {"method": "full"}),
        ({"method": "full", "optimizer": "adamw_torch"}, {"method": "full", "optimizer": "adamw_8bit"}),
        ({"method": "full"}, {"method": "full", "world_size": 4, "sharding": "fsdp2"}),
        ({"world_size": 4}, {"world_size": 1}),
        ({"varied": True, "tokens": 4096}, {"varied": False, "tokens": 4096}),
    ],
)
def test_what_takes_more_is_predicted_to_take_more(seven: Shape, more: dict[str, Any], less: dict[str, Any]) -> None:
    assert total(seven, Job(), **more) > total(seven, Job(), **less)


def test_sharding_over_four_divides_what_stays(seven: Shape) -> None:
    job = Job(method="full", master_weights=True, world_size=4, sharding="fsdp2", tokens=8192)
    parts = predict(seven, job, "a100-80g").parts
    assert parts["optimizer"] == pytest.approx(seven.parameters * 8 / 4, rel=0.01)
    assert parts["gradients"] == pytest.approx(seven.parameters * 4 / 4, rel=0.01)
    assert parts["weights"] > seven.parameters * 4 / 4  # and the layers gathered for the moment


def test_the_adapter_is_two_narrow_matrices_a_layer(seven: Shape) -> None:
    job = Job(r=8, targets=("q_proj", "v_proj"))
    assert adapter_parameters(seven, job) == 28 * 8 * (3584 + 3584 + 3584 + 512)
    assert adapter_parameters(seven, replace(job, method="full")) == 0
    assert predict(seven, job, None).parts["adapter"] == adapter_parameters(seven, job) * 4


def test_what_the_allocator_never_sees_is_told_apart(seven: Shape) -> None:
    one, two = (predict(seven, Job(world_size=size), "a100-80g") for size in (1, 2))
    assert 0 < one.outside_bytes < one.parts["overhead"]
    assert one.outside_bytes < two.outside_bytes


def test_quantisation_packs_linear_layers_alone() -> None:
    experts = shape_of(
        {**CONFIG, "model_type": "qwen3_moe", "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    )
    weights = predict(experts, QLORA, "a100-80g").parts["weights"]
    assert weights > experts.experts * 2  # one tensor for all experts, which bitsandbytes leaves as it is
    assert experts.active_parameters < experts.parameters / 4


def test_what_no_measurement_covers_is_said_in_both_languages(seven: Shape) -> None:
    assert predict(seven, Job(), "a100-80g").notes == ()
    assert not predict(seven, QLORA, "a100-40g").unmeasured
    fourteen = shape_of({**CONFIG, "num_hidden_layers": 56})
    beyond = {
        "memory.unmeasured-gpu": predict(seven, Job(), "rtx3090"),
        "memory.unmeasured-cpu": predict(seven, Job(), None),
        "memory.unmeasured-gpus": predict(seven, Job(world_size=2), "a100-80g"),
        "memory.unmeasured-size": predict(fourteen, Job(method="full"), "a100-80g"),
        "memory.unmeasured-stage": predict(seven, Job(stage="dpo"), "a100-80g"),
        "memory.unmeasured-method": predict(seven, Job(use_dora=True), "a100-80g"),
        "memory.unmeasured-quantization": predict(seven, Job(quantization="int8"), "a100-80g"),
        "memory.unknown-family": predict(shape_of({**CONFIG, "model_type": "new"}), Job(), "a100-80g"),
    }
    for code, prediction in beyond.items():
        assert prediction.unmeasured, code
        assert prediction.notes == (code,)
        assert len({t(code, lang) for lang in ("en", "zh")}) == 2


def test_a_wrapper_is_read_by_its_language_model() -> None:
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096}
    wrapped = shape_of({"model_type": "some_vl", "text_config": CONFIG, "vision_config": vision})
    assert wrapped.parameters == shape_of(CONFIG).parameters
    assert wrapped.tower == 24 * 1024 * (4 * 1024 + 2 * 4096)
    assert "memory.tower-estimated" in predict(wrapped, Job(), "a100-80g").notes
    assert not predict(wrapped, Job(), "a100-80g").unmeasured


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads"])
def test_a_configuration_without_a_size_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(UnusableConfig, match=key):
        shape_of({name: value for name, value in CONFIG.items() if name != key})
    with pytest.raises(UnusableConfig, match=key):
        shape_of({**CONFIG, key: 0})


@pytest.mark.parametrize("wrong", [None, "many", -1, 1.5, True, [], {}, 10**12])
def test_a_configuration_with_anything_in_it_is_read_or_refused(wrong: Any) -> None:
    for name in (*CONFIG, "head_dim", "layer_types", "sliding_window", "text_config", "vision_config", "num_experts"):
        for family in ("qwen2", "gemma4_text", "deepseek_v3", "qwen3_next", "chatglm", "gpt_oss", "unheard-of"):
            with contextlib.suppress(UnusableConfig):
                shape = shape_of({**CONFIG, "model_type": family, name: wrong})
                assert predict(shape, Job(), "a100-80g").total_bytes > 0


@pytest.mark.skipif(not FIGURES.is_file(), reason="the table of published figures is not here")
def test_predictions_keep_to_published_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "bench"), *sys.path])
    import memory
    import memory_rows

    compared = memory.compare([row for row in memory_rows.read_rows(FIGURES) if row.judged])
    found = memory.summarise(compared)
    assert found.rows > 75
    assert found.median <= 0.10
    assert found.within >= 0.8
    assert found.low <= 0.10
    assert found.false_fits <= 0.01 * found.decisions
    assert found.inside >= 0.93
