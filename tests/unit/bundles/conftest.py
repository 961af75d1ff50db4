"""A small bundle, made by the real `write_bundle` from a real model folder, and a run of it, told and not trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetui.bundles.folder import Bundle
from finetui.bundles.lock import Locked, write_bundle
from finetui.bundles.plan import LockPlan
from finetui.core.encode import load_template, load_tokenizer
from finetui.models.identify import identify

RECIPE = "# why: it is small\n[recipe]\nname = 'test'\n[train]\nlearning_rate = 2e-4  # usual\n"
ENVIRONMENT = {
    "python": "3.11.7",
    "implementation": "CPython",
    "packages": {"torch": "2.13.0+cpu", "transformers": "5.17.0", "nvidia-cublas": "13.1", "numpy": "2.4.6"},
    "torch": {"version": "2.13.0", "local": "cpu", "record_sha256": "0" * 64},
}
HARDWARE = {"device": "cpu", "vendor": "Test", "instruction_set": "avx2", "threads": 1, "torch": "2.13.0+cpu"}
SETTINGS = {"max_length": (200, "test"), "overlong": ("drop", "test"), "seed": (7, "test")}
SOURCE = {"name": "rows.jsonl", "sha256": "1" * 64, "bytes": 9, "format": "messages", "mapping": None, "rows": {}}

Lock = Callable[..., Locked]


def chat(question: str, answer: str) -> dict[str, Any]:
    """A record of one question and its answer."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


RECORDS = [chat(f"How much is {n} and {n}?", f"{2 * n}。") for n in range(12)]


@pytest.fixture
def lock(tiny_model: Path) -> Lock:
    """Write a bundle of `records` to a folder; keyword arguments replace parts of the plan."""

    def write(out: Path, records: Iterable[Mapping[str, Any]] = RECORDS, processes: int = 1, **changes: Any) -> Locked:
        tokenizer = load_tokenizer(tiny_model)
        facts: dict[str, Any] = {
            "name": "test",
            "recipe_text": RECIPE,
            "stage": "sft",
            "method": "lora",
            "model": identify(tiny_model),
            "template": load_template(tiny_model, tokenizer, date="2025-01-02"),
            "sources": lambda: [SOURCE],
            "settings": SETTINGS,
            "rows_per_step": 4,
            "world_size": 1,
            "steps": lambda rows: -(-rows // 4),
            "environment": ENVIRONMENT,
            "hardware": HARDWARE,
            "threads": 1,
        }
        parts = ((record.get("_part", "train"), record) for record in records)
        return write_bundle(out, LockPlan(**{**facts, **changes}), parts, tokenizer, processes=processes)

    return write


@pytest.fixture
def bundle(lock: Lock, tmp_path: Path) -> Path:
    """The folder of a bundle."""
    return lock(tmp_path / "test.bundle").path


@pytest.fixture
def run_dir(bundle: Path, tmp_path: Path) -> Path:
    """The folder of a finished run of that bundle."""
    return tell_run(tmp_path / "run", Bundle.load(bundle))


def tell_run(folder: Path, bundle: Bundle, **done: Any) -> Path:
    """Write what a finished run leaves, without training."""
    folder.mkdir()
    steps = bundle.lock["steps"]
    started = {"event": "started", "step": None, "world_size": 1, "python": "3.11.7", "packages": {"torch": "2.13.0"}}
    started |= {"device": "cpu", "steps": steps, "rows": 12}
    told = [started, *(_step(number) for number in range(1, steps + 1))]
    lines = (json.dumps({"v": 1, "time": 1.0, **event}) for event in told)
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    hardware = {"device": "cpu", "name": "x", "capability": "AVX2", "threads": 1, "torch": "2.13.0+cpu"}
    record = {"v": 1, "steps": steps, "final_loss": 0.1 + 0.2, "world_size": 1, "stopped_early": False}
    record |= {"outputs": {"adapter_model.safetensors": "a" * 64}, "hardware": hardware, **done}
    (folder / "done.json").write_text(json.dumps(record))
    (folder / "state.json").write_text(json.dumps({"bundle_id": bundle.id}))
    return folder


def _step(number: int) -> dict[str, Any]:
    facts = {"loss": 1 / (2 + number), "grad_norm": 0.1 * number, "batch_digest": f"{number:016x}"}
    facts |= {"learning_rate": 1e-4, "trained_tokens": 9, "tokens": 99, "tokens_per_second": 1.0, "epoch": 0.1}
    return {"event": "step", "step": number, "memory_bytes": 1, **facts}
