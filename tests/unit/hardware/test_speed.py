"""What is known of GPU kinds, and the time of a training pass on them."""

from __future__ import annotations

import csv
import re
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.hardware.kinds import gpu_kinds
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.shape import shape_of
from finetui.hardware.speed import flops, pass_seconds

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
FIGURES = ROOT.parent / "shared" / "memory-figures.csv"
SHAPE = shape_of(
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
)


def test_every_kind_that_can_be_named_is_described() -> None:
    for name, kind in gpu_kinds().items():
        assert kind.bf16 == (kind.compute_capability >= (8, 0)), name
        assert kind.tflops["float16"] > kind.tflops["float32"] > 0, name
        assert 10 * 2**30 < kind.usable_bytes < 200 * 2**30, name
        assert set(kind.achieved) == {"lora", "full"}, name
    assert gpu_kinds()["a100-80g"].measured
    assert not gpu_kinds()["rtx3090"].measured


def test_training_all_weights_is_half_as_much_work_again_as_training_an_adapter() -> None:
    full = flops(SHAPE, Job(method="full"), 1000, 1)
    assert full == pytest.approx(6 * SHAPE.active_parameters * 1000, rel=0.01)
    assert flops(SHAPE, Job(r=1), 1000, 1) == pytest.approx(full * 4 / 6, rel=0.01)


def test_longer_rows_and_slower_cards_take_longer() -> None:
    def seconds(kind: str = "a100-80g", **job: int | str) -> float:
        return pass_seconds(SHAPE, replace(Job(tokens=2048), **job), gpu_kinds()[kind])

    assert seconds(tokens=8192) > 4 * seconds()
    assert seconds("rtx3090") > seconds() > seconds("h100-80g")
    assert seconds(quantization="nf4") > seconds()
    assert seconds("t4", dtype="float16") == seconds("t4")  # without bfloat16 it is float16 that computes


@pytest.mark.skipif(not FIGURES.is_file(), reason="the table of published figures is not here")
def test_predicted_seconds_keep_to_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "bench"), *sys.path])
    import memory_rows

    notes = [cells["notes"] for cells in csv.DictReader(FIGURES.open(encoding="utf-8", newline=""))]
    errors = []
    for row in memory_rows.read_rows(FIGURES):
        stated = re.search(r"grad_accum 8; ([\d.]+) s/it", notes[row.number - 2])
        if stated and row.judged:
            seconds = 8 * pass_seconds(row.shape, row.job, gpu_kinds()["a100-80g"])
            errors.append(abs(seconds / float(stated[1]) - 1))
    assert len(errors) == 36
    assert statistics.median(errors) < 0.1
    assert max(errors) < 0.3
