"""The heaviest batches are tried out first: memory runs out before the first step, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from tests.workers import probe
from tests.workers.nursery import nursery
from tests.workers.trainee import Row, losses, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS = make_rows(20)
LONG: Row = ([number % 256 for number in range(6000)], [-100] * 5990 + [1] * 10)
"""A row of which eager attention needs four matrices of 144 MB."""
LITTLE = "400000000"


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lora", {"lora_dropout": 0.1, "use_dora": True, "packing": True}),
        ("lora", {"lora_dropout": 0.1, "optim": "paged_adamw_8bit", "dtype": "bfloat16"}),
        ("full", {"optim": "adamw_bnb_8bit", "weight_decay": 0.1}),
        ("full", {"optim": "adafactor", "dtype": "bfloat16", "master_weights": False}),
        ("full", {"optim": "sgd", "gradient_checkpointing": True}),
    ],
)
def test_what_is_tried_out_leaves_no_trace(
    tmp_path: Path, tiny_model: Path, method: str, settings: dict[str, Any]
) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, evaluation=make_rows(5, seed=1), method=method)
    trainee.set(max_steps=3, **settings)
    for rehearses in "01":
        done = trainee.train(tmp_path / rehearses, FINETUI_REHEARSE=rehearses)
        assert done.returncode == 0, done.stderr
    plain, rehearsed = (tmp_path / rehearses for rehearses in "01")
    assert losses(rehearsed) == losses(plain)
    results = [next(event for event in read_events(out) if event["event"] == "finished") for out in (plain, rehearsed)]
    assert results[0]["output_digests"] == results[1]["output_digests"]


@pytest.mark.parametrize(
    ("rows", "evaluation", "what"),
    [
        ([*ROWS, LONG], None, "the largest micro batch (24000 tokens)"),
        (ROWS, [*ROWS, LONG], "the largest evaluation batch (6000 tokens)"),
    ],
    ids=["training", "evaluation"],
)
def test_a_batch_that_does_not_fit_is_named_before_the_first_step(
    tmp_path: Path, tiny_model: Path, rows: list[Row], evaluation: list[Row] | None, what: str
) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, rows, evaluation=evaluation)
    trainee.set(max_length=6000, attn_implementation="eager", save_steps=1)
    limits = {"FINETUI_REHEARSE": "1", probe.MEMORY: LITTLE}
    done = trainee.train_in(nursery(), tmp_path / "out", watched=True, **limits)
    assert done.returncode == 1, done.stderr
    events = read_events(tmp_path / "out")
    assert [event["event"] for event in events] == ["started", "model_loaded", "failed"]
    assert events[-1]["cause"] == "out-of-memory"
    assert events[-1]["detail"].startswith("less memory for the same result: attn_implementation=sdpa, ")
    assert f"; {what} does not fit: " in events[-1]["detail"]


def test_a_weight_that_has_no_part_in_the_loss_is_named(tmp_path: Path) -> None:
    model = make_gemma(tmp_path / "gemma")
    trainee = make_trainee(tmp_path / "bundle", model, ROWS)
    trainee.write_lock(model=trainee.lock["model"] | {"architecture": "Gemma3ForConditionalGeneration"})
    trainee.set(target_modules=["q_proj"])
    done = trainee.train(tmp_path / "out")
    assert done.returncode == 1, done.stderr
    events = read_events(tmp_path / "out")
    assert [event["event"] for event in events] == ["started", "model_loaded", "failed"]
    detail = "2 trained weights have no part in the loss of text, so they would never move: "
    assert events[-1]["detail"].startswith(detail)
    assert "vision_tower" in events[-1]["detail"]


def make_gemma(folder: Path) -> Path:
    """A model with a tower for pictures."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    text = {**sizes, "num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 512}
    tower = {**sizes, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
    ids = {"image_token_index": 500, "boi_token_index": 501, "eoi_token_index": 502}
    config = Gemma3Config(text_config=text, vision_config=tower, mm_tokens_per_image=4, **ids)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return folder
