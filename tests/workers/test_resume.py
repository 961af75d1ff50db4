"""A training that is killed, stopped or refused room, and goes on: it ends bit for bit where an unbroken one ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetui.core import events
from finetui.core.knobs import knobs
from finetui.workers.train.settings import Knobs
from tests.workers.killing import Death, half_made, train_until
from tests.workers.trainee import ALONE, Trainee, make_rows, make_trainee, read_events

pytestmark = pytest.mark.worker

ROWS, EVALUATION = make_rows(20), make_rows(5, seed=1)
SAVING = {"save_steps": 2, "eval_steps": 2}
KINDS: dict[str, dict[str, Any]] = {
    "dropout": {"lora_dropout": 0.2},
    "dora-packed": {"use_dora": True, "lora_dropout": 0.2, "packing": True},
    "checkpointing": {"lora_dropout": 0.2, "gradient_checkpointing": True, "dtype": "bfloat16"},
    "qlora": {"lora_dropout": 0.2, "load_in_4bit": True},
    "best": {"load_best_model_at_end": True, "eval_steps": 1, "save_total_limit": 1, "learning_rate": 0.2},
    "clipped-cosine": {"lr_scheduler_type": "cosine", "warmup_steps": 2, "weight_decay": 0.1, "max_grad_norm": 0.1},
}


@pytest.fixture
def trainee(tmp_path: Path, tiny_model: Path) -> Trainee:
    """A bundle of twenty rows that saves every second step of six."""
    made = make_trainee(tmp_path / "my bundle", tiny_model, ROWS, evaluation=EVALUATION)
    made.set(**SAVING, lora_dropout=0.2)
    return made


def whole(trainee: Trainee, out: Path) -> tuple[Any, ...]:
    """What an unbroken training gives."""
    done = trainee.train(out)
    assert done.returncode == 0, done.stderr
    return gave(out)


def broken(trainee: Trainee, out: Path, steps: int) -> None:
    """Train so many steps, and leave what a kill after them leaves."""
    done = trainee.train(out, FINETUI_STOP_AFTER=str(steps))
    assert done.returncode == 0, done.stderr
    (out / "done.json").unlink()


def resumed(trainee: Trainee, out: Path, **environment: str) -> list[dict[str, Any]]:
    """Go on to the end; gives the events since."""
    before = len(read_events(out))
    done = trainee.train(out, **{"FINETUI_RESUME": "newest", **environment})
    assert done.returncode == 0, done.stderr
    since = read_events(out)[before:]
    assert [problem for event in since for problem in events.conforms(event)] == []
    return since


def refused(trainee: Trainee, out: Path, **environment: str) -> dict[str, Any]:
    """The event of a training that could not go on."""
    done = trainee.train(out, **{"FINETUI_RESUME": "newest", **environment})
    assert done.returncode == 1
    return read_events(out)[-1]


def gave(out: Path) -> tuple[Any, ...]:
    """What may not differ between two runs: digests of what came out, and every step's figures."""
    record = json.loads((out / "done.json").read_text())
    facts = ("step", "loss", "grad_norm", "learning_rate", "batch_digest", "epoch", "tokens")
    steps = [tuple(step[fact] for fact in facts) for step in events.steps(out / "events.jsonl")]
    told = read_events(out)
    evaluated = {event["step"]: event["loss"] for event in told if event["event"] == "evaluation"}
    best = [event["step"] for event in told if event["event"] == "best"]
    return record["outputs"], record["final_loss"], record["steps"], steps, evaluated, best[-1:]


def checkpoints(out: Path) -> list[str]:
    """The folders of its checkpoints, by name."""
    return sorted(path.name for path in (out / "checkpoints").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_training_ends_bit_for_bit_where_an_unbroken_one_does(
    trainee: Trainee, tmp_path: Path, kind: str
) -> None:
    trainee.set(**KINDS[kind])
    expected = whole(trainee, tmp_path / "whole")
    broken(trainee, tmp_path / "out", 5)
    assert resumed(trainee, tmp_path / "out")[0]["resumed_from"] == 4
    assert gave(tmp_path / "out") == expected


@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16", "master_weights": False, "packing": True}])
def test_full_fine_tuning_goes_on_too(tmp_path: Path, tiny_model: Path, settings: dict[str, Any]) -> None:
    trainee = make_trainee(tmp_path / "bundle", tiny_model, ROWS, method="full")
    trainee.set(save_steps=2, **settings)
    expected = whole(trainee, tmp_path / "whole")
    broken(trainee, tmp_path / "out", 3)
    assert resumed(trainee, tmp_path / "out")[0]["resumed_from"] == 2
    assert gave(tmp_path / "out") == expected


def test_two_processes_go_on_each_with_its_own_random_numbers(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(nproc_per_node=2, gradient_accumulation_steps=1)
    for out, environment in (("whole", {}), ("out", {"FINETUI_STOP_AFTER": "3"})):
        done = trainee.launch(tmp_path / out, **environment)
        assert done.returncode == 0, done.stderr
    (tmp_path / "out" / "done.json").unlink()
    done = trainee.launch(tmp_path / "out", FINETUI_RESUME="newest")
    assert done.returncode == 0, done.stderr
    assert gave(tmp_path / "out") == gave(tmp_path / "whole")


def test_twice_broken_and_from_a_checkpoint_that_is_named(trainee: Trainee, tmp_path: Path) -> None:
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    broken(trainee, out, 5)
    named = str(out / "checkpoints" / "checkpoint-2")
    done = trainee.train(out, FINETUI_RESUME=named, FINETUI_STOP_AFTER="3")
    assert done.returncode == 0, done.stderr
    assert checkpoints(out) == ["checkpoint-2"]
    (out / "done.json").unlink()
    assert resumed(trainee, out)[0]["resumed_from"] == 2
    assert gave(out) == expected


def test_nothing_to_go_on_from_begins_anew_and_says_so(trainee: Trainee, tmp_path: Path) -> None:
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    broken(trainee, out, 1)
    with (out / "events.jsonl").open("a") as file:
        file.write('{"v": 1, "event": "st')  # a line within which it was killed
    done = trainee.train(out, FINETUI_RESUME="newest")
    assert done.returncode == 0, done.stderr
    told = [event.facts for event in events.Tail(out / "events.jsonl").events()]
    again = [event for event in told if event["event"] == "started"][-1]
    assert again["resumed_from"] == 0
    assert [event["code"] for event in told if event["event"] == "warning"] == ["no-checkpoint"]
    steps = events.steps(out / "events.jsonl")
    assert [step["loss"] for step in steps] == [step[1] for step in expected[3]]
    assert json.loads((out / "done.json").read_text())["outputs"] == expected[0]


def test_links_copies_and_files_between_the_checkpoints_are_none(trainee: Trainee, tmp_path: Path) -> None:
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    broken(trainee, out, 5)
    place = out / "checkpoints"
    (place / "checkpoint-best").symlink_to("checkpoint-2")
    (place / "checkpoint-6").symlink_to("checkpoint-2")
    shutil.copytree(place / "checkpoint-2", place / "checkpoint-9")
    (place / "checkpoint-7").write_text("a note")
    since = resumed(trainee, out)
    assert since[0]["resumed_from"] == 4
    assert gave(out) == expected
    assert (place / "checkpoint-best").resolve() == place / "checkpoint-2" or not (place / "checkpoint-2").exists()


def cut(path: Path) -> None:
    """Take a byte off the end of a file."""
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "name", "said"),
    [
        (cut, "adapter_model.safetensors", "adapter_model.safetensors does not have the digest"),
        (flip, "optimizer.pt", "optimizer.pt does not have the digest"),
        (flip, "complete.json", "no complete.json that is whole"),
        (Path.unlink, "complete.json", "no complete.json that is whole"),
        (Path.unlink, "scheduler.pt", "scheduler.pt is missing"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    trainee: Trainee, tmp_path: Path, harm: Any, name: str, said: str
) -> None:
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    broken(trainee, out, 5)
    harm(out / "checkpoints" / "checkpoint-4" / name)
    since = resumed(trainee, out)
    assert since[0]["resumed_from"] == 2
    warning = next(event for event in since if event["event"] == "warning")
    assert warning["code"] == "checkpoint-damaged"
    assert warning["text"].startswith("passed over: checkpoint-4: ")
    assert said in warning["text"]
    assert gave(out) == expected


def test_without_the_best_checkpoint_it_goes_back_before_it(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(**KINDS["best"] | {"save_total_limit": 5, "learning_rate": 5.0})
    out = tmp_path / "out"
    expected = whole(trainee, out)
    assert expected[-1] == [4], "the best checkpoint must not be the last one for this test"
    (out / "done.json").unlink()
    cut(out / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors")
    assert resumed(trainee, out)[0]["resumed_from"] == 2
    assert gave(out) == expected


def test_a_checkpoint_that_a_stop_made_off_its_turn_is_not_the_best(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(load_best_model_at_end=True, eval_steps=1, save_steps=3, learning_rate=0.2)
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    stop_at_step(trainee, out, 2)
    assert checkpoints(out)[-1] != "checkpoint-6"
    resumed(trainee, out)
    assert gave(out) == expected


def stop_at_step(trainee: Trainee, out: Path, step: int, number: int = signal.SIGTERM) -> None:
    """Send a signal once that step is done; the training saves and ends."""
    command, environment = [sys.executable, "-m", "train.main"], trainee.environment(out, **ALONE)
    with subprocess.Popen(command, cwd=trainee.folder, env=environment, stderr=subprocess.PIPE) as process:
        while not (out / "events.jsonl").exists() or not any(
            event.name == "step" and (event.step or 0) >= step for event in events.Tail(out / "events.jsonl").events()
        ):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        process.communicate(timeout=120)
    assert process.returncode == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.soak)])
def test_a_stopped_training_goes_on_from_its_last_step(trainee: Trainee, tmp_path: Path, number: int) -> None:
    trainee.set(num_train_epochs=40, save_steps=1000)
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    stop_at_step(trainee, out, 5, number)
    assert read_events(out)[-1]["code"] == "stopped"
    stopped_at = read_events(out)[-1]["step"]
    assert checkpoints(out) == [f"checkpoint-{stopped_at}"]
    assert resumed(trainee, out)[0]["resumed_from"] == stopped_at
    assert gave(out) == expected


def test_a_full_disk_within_a_save_leaves_the_last_good_checkpoint(trainee: Trainee, tmp_path: Path) -> None:
    expected = whole(trainee, tmp_path / "whole")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        out = small / "out"
        done = trainee.train(out, FINETUI_EVENTS=str(tmp_path / "events.jsonl"))
        assert done.returncode == 1
        assert events.last(tmp_path / "events.jsonl", ["failed"])["cause"] == "disk-full"  # type: ignore[index]
        assert checkpoints(out)[:1] == ["checkpoint-2"]
        assert not half_made(out)
        subprocess.run(["mount", "-o", "remount,size=40m", str(small)], check=True)
        done = trainee.train(out, FINETUI_EVENTS=str(tmp_path / "events.jsonl"), FINETUI_RESUME="newest")
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "done.json").read_text())["outputs"] == expected[0]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_other_settings_rows_or_weights_are_refused_by_name(trainee: Trainee, tmp_path: Path) -> None:
    out = tmp_path / "out"
    broken(trainee, out, 3)
    trainee.set(learning_rate=0.5, weight_decay=0.1)
    failed = refused(trainee, out)
    assert failed["cause"] == "resume-mismatch"
    assert "learning_rate is 0.5, it was 0.01; weight_decay is 0.1, it was 0.0" in failed["detail"]
    trainee.set(learning_rate=0.01, weight_decay=0.0)
    assert refused(trainee, out, FINETUI_CHANGES='{"seed": 1}')["cause"] == "resume-mismatch"
    assert refused(trainee, out, FINETUI_RESUME=str(tmp_path))["cause"] == "resume-mismatch"
    assert checkpoints(out) == ["checkpoint-2"]
    resumed(trainee, out)


def test_settings_of_memory_may_change_and_the_rows_of_a_step_stay(trainee: Trainee, tmp_path: Path) -> None:
    trainee.set(lora_dropout=0.0)
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    broken(trainee, out, 3)
    changes = {"per_device_train_batch_size": 1, "gradient_checkpointing": True}
    since = resumed(trainee, out, FINETUI_CHANGES=json.dumps(changes))
    assert since[0]["changes"] == changes
    assert json.loads((out / "done.json").read_text())["changes"] == changes
    steps = events.steps(out / "events.jsonl")
    assert [step["batch_digest"] for step in steps] == [step[4] for step in expected[3]]
    assert [step["loss"] for step in steps] == pytest.approx([step[1] for step in expected[3]], rel=1e-5)


def test_settings_that_may_change_are_those_of_memory_alone() -> None:
    free = {name for name, known in Knobs.__dataclass_fields__.items() if known.metadata.get("memory")}
    kept = {name for name, knob in knobs().items() if knob.changes == "memory" and knob.locked == "training"}
    assert free == kept - {"nproc_per_node", "parallelism"}


def test_a_kill_within_the_first_and_the_last_save_of_a_training(trainee: Trainee, tmp_path: Path) -> None:
    unbroken = train_until(trainee, tmp_path / "whole", Death())
    expected = gave(tmp_path / "whole")
    for operation in (1, 5, unbroken.operations // 3, unbroken.operations - 3, unbroken.operations):
        out = tmp_path / f"out-{operation}"
        assert train_until(trainee, out, Death(operation=operation)).code == -9
        resumed(trainee, out)
        assert gave(out) == expected


def test_launch_goes_on_without_finetui_and_not_with_an_ended_run(trainee: Trainee, tmp_path: Path) -> None:
    expected = whole(trainee, tmp_path / "whole")
    out = tmp_path / "out"
    broken(trainee, out, 3)
    refusal = trainee.launch(out)
    assert (refusal.returncode, "FINETUI_RESUME=newest" in refusal.stderr) == (2, True)
    done = trainee.launch(out, FINETUI_RESUME="newest")
    assert done.returncode == 0, done.stderr
    assert gave(out) == expected
    assert trainee.launch(out, FINETUI_RESUME="newest").returncode == 2
