"""The same lock gives the same bits: in fresh processes, for every method, packed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.nursery import Nursery, nursery
from tests.workers.trainee import losses, make_rows, make_trainee

pytestmark = pytest.mark.worker

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"lora_dropout": 0.1}),
    "lora packed": ("lora", {"lora_dropout": 0.1, "packing": True, "gradient_checkpointing": True}),
    "dora": ("lora", {"lora_dropout": 0.1, "use_dora": True, "dtype": "bfloat16"}),
    "dora packed": ("lora", {"lora_dropout": 0.1, "use_dora": True, "packing": True}),
    "full": ("full", {"dtype": "bfloat16", "weight_decay": 0.1}),
    "full packed": ("full", {"packing": True, "optim": "adamw_bnb_8bit"}),
    "two processes": ("lora", {"lora_dropout": 0.1, "packing": True, "nproc_per_node": 2}),
}


@pytest.fixture(scope="module")
def another() -> Iterator[Nursery]:
    """A process started on its own, with another seed for Python's hashes."""
    other = Nursery(PYTHONHASHSEED="4321")
    yield other
    other.close()


@pytest.mark.parametrize("case", CASES)
def test_a_second_run_gives_the_same_bytes(tmp_path: Path, tiny_model: Path, another: Nursery, case: str) -> None:
    method, settings = CASES[case]
    trainee = make_trainee(tmp_path / "bundle", tiny_model, make_rows(20), evaluation=make_rows(5), method=method)
    trainee.set(**{"per_device_train_batch_size": 2, **settings})
    digests = []
    for name, place in (("one", nursery()), ("other", another)):
        done = trainee.train_in(place, tmp_path / name)
        assert done.returncode == 0, done.stderr
        digests.append(json.loads((tmp_path / name / "done.json").read_text())["outputs"])
    assert digests[0] == digests[1]
    assert losses(tmp_path / "one") == losses(tmp_path / "other")


@pytest.mark.parametrize("case", ["lora", "full"])
def test_another_seed_gives_another_order_and_another_result(tmp_path: Path, tiny_model: Path, case: str) -> None:
    method, _ = CASES[case]
    trainee = make_trainee(tmp_path / "bundle", tiny_model, make_rows(20), method=method)
    digests = []
    for seed in (7, 8):
        trainee.set(seed=seed, max_steps=2)
        assert trainee.train(tmp_path / str(seed)).returncode == 0
        digests.append(json.loads((tmp_path / str(seed) / "done.json").read_text())["outputs"])
    assert digests[0] != digests[1]
    assert losses(tmp_path / "7")[0] != losses(tmp_path / "8")[0]
