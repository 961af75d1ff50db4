"""Many seeded kills, a fifth of them within saves: every training that was killed ends bit for bit as if it was not.

`FINETUI_KILLS` says how many (200 unless it does).
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetui.core import events
from tests.workers.killing import Death, half_made, train_until
from tests.workers.trainee import make_rows, make_trainee

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("FINETUI_KILLS", "200"))
KINDS: dict[str, dict[str, Any]] = {
    "dropout": {"lora_dropout": 0.2},
    "dora, packed": {"lora_dropout": 0.2, "use_dora": True, "packing": True},
    "checkpointing in bfloat16": {"lora_dropout": 0.2, "dtype": "bfloat16", "gradient_checkpointing": True},
    "the best at the end": {"lora_dropout": 0.2, "load_best_model_at_end": True, "learning_rate": 0.2},
}


def test_every_killed_training_ends_as_the_unbroken_one(tmp_path: Path, tiny_model: Path) -> None:
    dice = random.Random(2024)
    trainee = make_trainee(tmp_path / "tiny.bundle", tiny_model, make_rows(20), evaluation=make_rows(4, seed=1))
    trainee.set(num_train_epochs=4, save_steps=3, save_total_limit=1, eval_steps=3)
    settings = dict(trainee.lock["training"])
    tally = {"kills": 0, "within saves": 0, "left a half checkpoint": 0, "from step 0": 0, "equal": 0}
    for turn, (kind, changes) in enumerate(KINDS.items()):
        trainee.lock["training"] = dict(settings)
        trainee.set(**changes)
        unbroken = train_until(trainee, tmp_path / kind, Death())
        assert unbroken.code == 0, unbroken.words
        expected = _gave(tmp_path / kind)
        for number in range(turn, KILLS, len(KINDS)):
            out = tmp_path / f"killed-{number}"
            within = number // len(KINDS) % 5 == 4
            death = Death(seconds=dice.uniform(0, unbroken.seconds))
            if within:
                death = Death(
                    operation=dice.randint(1, unbroken.operations), delay=dice.choice([0, dice.random() / 50])
                )
            while (killed := train_until(trainee, out, death)).code == 0:  # it was quicker than the unbroken one
                shutil.rmtree(out)
                death = Death(seconds=dice.uniform(0, unbroken.seconds))
            assert killed.code == -9, killed.words
            tally["kills"] += 1
            tally["within saves"] += within
            tally["left a half checkpoint"] += half_made(out)
            if not (out / "done.json").exists():
                rest = train_until(trainee, out, Death(), FINETUI_RESUME="newest")
                assert rest.code == 0, rest.words
                tally["from step 0"] += _resumed_from(out) == 0
            assert _gave(out) == expected, f"kill {number} ({kind}, {death})"
            tally["equal"] += 1
            shutil.rmtree(out)
    print(json.dumps(tally))
    assert tally["equal"] == tally["kills"] == KILLS


def _gave(out: Path) -> tuple[Any, ...]:
    """Digests of what came out, the loss at the end, and every step that counts."""
    record = json.loads((out / "done.json").read_text())
    facts = ("step", "loss", "grad_norm", "learning_rate", "batch_digest", "epoch")
    steps = [tuple(step[fact] for fact in facts) for step in events.steps(out / "events.jsonl")]
    return record["outputs"], record["final_loss"], record["steps"], steps


def _resumed_from(out: Path) -> int:
    started = events.last(out / "events.jsonl", ["started"])
    assert started is not None
    return int(started["resumed_from"])
