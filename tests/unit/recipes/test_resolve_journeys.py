"""The five journeys on their own hardware, with the numbers of their authors."""

from pathlib import Path

import pytest

from finetui.recipes.resolve import Plan
from tests.unit.recipes.planning import LLAMA13B, QWEN1B8, QWEN7B, QWEN14B, planned, shaped, tokens, value, why

pytestmark = pytest.mark.unit

CHATS = tokens([400] * 900 + [1800] * 100, trained=300)
"""A thousand rows of chats."""


def rows(plan: Plan) -> tuple[int, int, int, int]:
    """Rows a step, rows at once, accumulation, processes."""
    names = ("rows_per_step", "per_device_train_batch_size", "gradient_accumulation_steps", "nproc_per_node")
    return tuple(value(plan, name) for name in names)  # type: ignore[return-value]


def test_journey_1_full_on_four_a100(tmp_path: Path) -> None:
    made = planned(shaped(tmp_path, QWEN14B), "journey-1-full", gpus="a100-80g:4", tokens=CHATS)
    assert rows(made) == (16, 4, 1, 4)
    assert (value(made, "max_length"), value(made, "learning_rate"), value(made, "max_steps")) == (2048, 2e-5, 1000)
    assert value(made, "per_device_eval_batch_size") == 16
    assert value(made, "parallelism") == "fsdp2"
    assert "memory.unmeasured-size" in made.notes
    today = planned(shaped(tmp_path, QWEN14B), "full-a100x4", gpus="a100-80g:4", tokens=CHATS)
    assert rows(today)[0] == 16
    assert today.fits


def test_journey_1_lora_on_four_a100(tmp_path: Path) -> None:
    made = planned(shaped(tmp_path, QWEN14B), "journey-1-lora", gpus="a100-80g:4", tokens=CHATS)
    assert rows(made) == (64, 16, 1, 4)
    assert (value(made, "learning_rate"), value(made, "per_device_eval_batch_size")) == (3e-4, 32)
    assert made.settled.saving.steps == 1000
    assert "rules.steps-over-epochs" in [problem.code for problem in made.warnings]
    today = planned(shaped(tmp_path, QWEN14B), "lora-a100x4", gpus="a100-80g:4", tokens=CHATS)
    assert (rows(today)[0], today.fits, value(today, "parallelism")) == (64, True, "ddp")


def test_journey_2_on_two_cards(tmp_path: Path) -> None:
    llama = shaped(tmp_path, LLAMA13B, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                   num_attention_heads=32, num_key_value_heads=32)  # fmt: skip
    data = tokens([300] * 5400, held=[300] * 600)
    made = planned(llama, "journey-2", gpus="rtx3090:2", tokens=data)
    assert made.fits
    assert rows(made) == (4, 1, 2, 2)
    assert (value(made, "dtype"), value(made, "parallelism")) == ("float16", "ddp")
    assert value(made, "target_modules") == ["q_proj", "v_proj"]
    assert (value(made, "eval_steps"), value(made, "save_steps"), made.settled.saving.steps) == (100, 100, 4050)


def test_journey_3_from_one_card_to_many_keeps_what_each_process_does(tmp_path: Path) -> None:
    model = shaped(tmp_path, QWEN7B)
    flash = {"flash-attn": "2.8"}
    for count in (1, 2, 4):
        made = planned(model, "journey-3", gpus=f"a100-80g:{count}", tokens=CHATS, packages=flash)
        assert rows(made) == (16 * count, 4, 4, count)
        assert value(made, "attn_implementation") == "flash_attention_2"
        assert {"rules.low-rate", "rules.long-warmup"} <= {problem.code for problem in made.warnings}


def test_journey_4_on_one_3090(tmp_path: Path) -> None:
    identity = tokens([60] * 300)
    config = {
        "model_type": "qwen", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 24,
        "num_attention_heads": 16, "kv_channels": 128, "vocab_size": 151936, "seq_length": 8192,
    }  # fmt: skip
    first = planned(shaped(tmp_path / "first", config), "journey-4", gpus="rtx3090", tokens=identity)
    assert first.fits
    assert [problem.code for problem in first.untrained] == ["rules.no-class"]
    assert "Qwen/Qwen1.5-1.8B" in str(first.untrained[0].next())
    successor = shaped(tmp_path / "next", QWEN1B8)
    made = planned(successor, "journey-4", "target_modules=all-linear", gpus="rtx3090", tokens=identity)
    assert made.fits
    assert not made.untrained
    assert rows(made) == (16, 2, 8, 1)
    assert made.settled.saving.checkpoints == 0  # every 1 000 steps of 95


def test_journey_5_on_a_rented_box(tmp_path: Path) -> None:
    belle = tokens([200] * 990 + [600] * 10, trained=120)
    made = planned(shaped(tmp_path, LLAMA13B), "journey-5", gpus="rtx3090", tokens=belle, price=0.25)
    assert made.fits
    assert rows(made) == (16, 4, 4, 1)
    assert (value(made, "load_in_4bit"), value(made, "bnb_4bit_quant_type"), value(made, "max_length")) == (
        True, "nf4", 512
    )  # fmt: skip
    assert (value(made, "dtype"), made.settled.saving.steps) == ("float16", 100)
    assert made.cost is not None
    assert 0 < made.cost.amount < 1
    today = planned(shaped(tmp_path, LLAMA13B), "qlora-3090", gpus="rtx3090", tokens=belle)
    assert (today.fits, value(today, "dtype"), rows(today)[0]) == (True, "bfloat16", 16)
    assert why(today, "max_length") == "the longest row of the data has 600 tokens"
