"""A training that is killed, stopped or refused room, and goes on: it ends bit for bit where an unbroken one ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetui.core import events
from tests.workers.trainee import ALONE, Trainee, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

KILLED = """
import os, signal, sys
from pathlib import Path
from train import main, trainer

step, where = int(sys.argv[1]), sys.argv[2]
log = trainer.TokenTrainer.log

def log_and_die(self, *args, **kwargs):
    log(self, *args, **kwargs)
    if self.state.global_step == step and where == "step":
        os.kill(os.getpid(), signal.SIGKILL)

def die(event, args):
    if event == where and f"checkpoint-{step}" in str(args[0]):
        os.kill(os.getpid(), signal.SIGKILL)

trainer.TokenTrainer.log = log_and_die
sys.addaudithook(die)
sys.exit(main.main())
"""
"""The trainer, killed by itself once a step is logged, or when a file of that step's checkpoint is opened or moved."""
KINDS: dict[str, dict[str, Any]] = {
    "dropout": {"lora_dropout": 0.2},
    "dora-packed": {"use_dora": True, "lora_dropout": 0.2, "packing": True},
    "checkpointing": {"lora_dropout": 0.2, "gradient_checkpointing": True, "dtype": "bfloat16"},
    "best": {"load_best_model_at_end": True, "eval_steps": 1, "save_total_limit": 1, "learning_rate": 0.2},
}


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle of twenty rows that saves every second step of six."""
    made = make_trainee(tmp_path / "my bundle", tiny_model, make_rows(20), evaluation=make_rows(5, seed=1))
    made.set(save_steps=2, eval_steps=2, lora_dropout=0.2)
    return made


def killed(trainee: Trainee, out: Path, step: int, where: str = "step", **environment: str) -> None:
    """Train until the trainer kills itself."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), where],
        cwd=trainee.folder,
        env=trainee.environment(out, **ALONE, **environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -9, done.stderr


def resumed(trainee: Trainee, out: Path, **environment: str) -> list[dict[str, Any]]:
    """Go on from the newest checkpoint to the end; gives the events since."""
    before = len(read_events(out)) if (out / "events.jsonl").exists() else 0
    done = trainee.train(out, FINETUI_RESUME="newest", **environment)
    assert done.returncode == 0, done.stderr
    return read_events(out)[before:]


def gave(out: Path) -> tuple[Any, ...]:
    """What may not differ between two runs: digests of what came out, and every step's figures."""
    record = json.loads((out / "done.json").read_text())
    facts = ("step", "loss", "grad_norm", "learning_rate", "batch_digest", "epoch", "tokens")
    steps = [tuple(step[fact] for fact in facts) for step in events.steps(out / "events.jsonl")]
    told = read_events(out)
    evaluated = {event["step"]: event["loss"] for event in told if event["event"] == "evaluation"}
    best = [event["step"] for event in told if event["event"] == "best"]
    return record["outputs"], record["final_loss"], steps, evaluated, best[-1:]


def whole(trainee: Trainee, out: Path) -> tuple[Any, ...]:
    """What an unbroken training gives."""
    done = trainee.train(out)
    assert done.returncode == 0, done.stderr
    return gave(out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_ends_bit_for_bit_where_an_unbroken_one_does(
    trainee: Trainee, tmp_path: Path, kind: str
) -> None:
    trainee.set(**KINDS[kind])
    expected = whole(trainee, tmp_path / "whole")
    killed(trainee, tmp_path / "out", 5)
    since = resumed(trainee, tmp_path / "out")
    assert since[0]["resumed_from"] == 4
    assert [problem for event in since for problem in events.conforms(event)] == []
    assert gave(tmp_path / "out") == expected
