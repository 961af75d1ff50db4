"""The trace of a training step beside the formula: on published measurements, on counted real steps, and its cost.

    python bench/trace.py [FIGURES.csv] > bench/results/trace.md

Nothing decides by it: settings follow the formula, and a trace may only widen the band that is shown.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import transformers
from memory import FIGURES, Compared, compare
from memory_rows import GIB, config_of, read_rows

from finetui.hardware.memory.job import Job
from finetui.hardware.memory.predict import Prediction, predict
from finetui.hardware.memory.shape import shape_of
from finetui.hardware.memory.traced import trace as trace_in_worker
from finetui.workers.trace import __main__ as worker
from tests.workers.test_trace import config_of as small_config
from tests.workers.test_trace import real

_INTRODUCTION = """# A traced step beside the formula

`python bench/trace.py`; {conditions}. The trace counts storages of one step on tensors without memory, at two depths,
and has the overhead of the formula added (context, fragmentation). It decides no setting.

Of the models below, three came with classes of their own that transformers does not have; they are traced as their
nearest kin: Qwen as Qwen 2, Baichuan 2 as Llama, ChatGLM 3 as GLM.
"""
_WITHOUT = {"checkpointing": False}
_QWEN = {"model_type": "qwen2", "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
SHAPES: dict[str, dict[str, Any]] = {
    "1.5 B": {
        **_QWEN,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7 B": {**_QWEN, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
    "14 B": {
        **_QWEN,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
}
"""Qwen 2.5's."""
JOBS = {
    "LoRA": Job(),
    "LoRA without checkpointing": Job(**_WITHOUT),
    "QLoRA": Job(quantization="nf4", double_quant=True),
    "DoRA": Job(use_dora=True),
    "full in 16 bits": Job(method="full"),
    "full in 16 bits without checkpointing": Job(method="full", **_WITHOUT),
    "full with float32 masters": Job(method="full", master_weights=True),
    "full with float32 masters without checkpointing": Job(method="full", master_weights=True, **_WITHOUT),
}


def main() -> None:
    """Print the tables as Markdown."""
    worker.progress = lambda **_: None  # nobody listens
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(_INTRODUCTION.format(conditions=f"{versions}, {os.cpu_count()} cores, one thread"))
    compared = compare(read_rows(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES))
    _published([pair for pair in compared if pair.row.judged and pair.row.measured])
    _counted()
    _cost()


def _published(compared: Sequence[Compared]) -> None:
    print("## Published measurements\n\nThe rows that the formula is judged by (memory.md).\n")
    lines, errors = [], []
    for pair in compared:
        row = pair.row
        traced = _traced(config_of(row.model), row.job) + _beside(pair)
        error, formula = traced / row.measured - 1, pair.error
        low, high = pair.prediction.band
        errors.append((row.publisher, error, formula, low <= traced <= high))
        lines.append(
            f"| {row.number} | {row.publisher} | {row.model} | {row.what} | {row.measured / GIB:.2f} "
            f"| {pair.prediction.total_bytes / GIB:.2f} | {formula:+.1%} | {traced / GIB:.2f} | {error:+.1%} |"
        )
    print("| rows | number | formula: median error | within 20 % | over 10 % too low ", end="")
    print("| trace: median error | within 20 % | over 10 % too low | trace inside the formula's band |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ("all", *dict.fromkeys(publisher for publisher, *_ in errors)):
        group = [one for one in errors if name in ("all", one[0])]
        inside = sum(one[3] for one in group) / len(group)
        figures = [*_figures([one[2] for one in group]), *_figures([one[1] for one in group]), f"{inside:.1%}"]
        print(f"| {name} | {len(group)} | {' | '.join(figures)} |")
    print("\n| row | publisher | model | job | measured GiB | formula GiB | error | trace GiB | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


def _figures(errors: Sequence[float]) -> Iterator[str]:
    yield f"{statistics.median(map(abs, errors)):.1%}"
    yield f"{sum(abs(error) <= 0.2 for error in errors) / len(errors):.1%}"
    yield f"{sum(error < -0.1 for error in errors) / len(errors):.1%}"


def _traced(config: Mapping[str, Any], job: Job | None) -> int:
    request = {"config": dict(config), "job": {**asdict(job), "rows": job.rows}, "device": "cuda", "accumulates": True}
    return int(worker.trace(request)["peak_bytes"])


def _beside(pair: Compared) -> int:
    """What the formula adds to its step, as the publisher reads it."""
    outside = 0 if pair.row.process else pair.prediction.outside_bytes
    return pair.prediction.parts["overhead"] - outside


def _counted() -> None:
    """Steps with real tensors on the CPU, each of their storages counted."""
    print("\n## Counted real steps\n")
    print("A Llama of 4 layers, 192 wide, 2 rows of 96 tokens, bfloat16 on the CPU; every storage of the real step")
    print("counted. Overhead left out.\n")
    print("| job | counted MiB | formula | trace |\n|---|---|---|---|")
    config = small_config("llama")
    for name, each in JOBS.items():
        if each.quantization:
            continue
        job = replace(each, r=8, micro_batch=2, tokens=96)
        counted = real(config, job).total
        request = {"config": config, "job": {**asdict(job), "rows": job.rows}, "device": "cpu", "accumulates": False}
        traced = worker.trace(request)["peak_bytes"]
        formula = _step(predict(shape_of(config), job))
        print(f"| {name} | {counted / (1 << 20):.1f} | {formula / counted - 1:+.1%} | {traced / counted - 1:+.1%} |")


def _cost() -> None:
    """Shapes that people train: what both say, and the CPU seconds of a trace."""
    print("\n## Large shapes\n\nOne row of 2048 tokens, sdpa, on a GPU; step without overhead. Seconds are of CPU time")
    print("within the worker, imports apart.\n")
    print("| shape | job | formula GiB | trace GiB | formula by trace | layers traced | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, config in SHAPES.items():
        for title, each in JOBS.items():
            job = replace(each, tokens=2048)
            formula = _step(predict(shape_of(config), job, "a100-80g"))
            request = {"config": config, "job": {**asdict(job), "rows": job.rows}, "device": "cuda"}
            found = worker.trace({**request, "accumulates": False})
            traced, few_and_more = found["peak_bytes"], ", ".join(map(str, found["layers_traced"]))
            print(
                f"| {name} | {title} | {formula / GIB:.2f} | {traced / GIB:.2f} | {formula / traced - 1:+.1%} "
                f"| {few_and_more} | {found['seconds']:.1f} |"
            )
    job = Job(tokens=2048)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    config = SHAPES["7 B"]
    trace_in_worker(config, job, predict(shape_of(config), job, "a100-80g"), "a100-80g")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"\nThe whole worker for LoRA on 7 B, start and imports of torch and transformers included: {seconds:.1f} s of"
    )
    print(f"CPU time, {after.ru_maxrss / (1 << 20):.2f} GiB of memory.")


def _step(prediction: Prediction) -> int:
    return prediction.total_bytes - prediction.parts["overhead"]


if __name__ == "__main__":
    main()
