"""`plan --try` and `plan --trace` with real processes: measured steps, memory that runs out, nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetui.workers.trial import __main__ as worker

pytestmark = pytest.mark.worker

MODULE = "finetui.workers.trial.process"
EAGER = ("--set", "attn_implementation=eager", "--set", "max_length=1024")
LARGE = (*EAGER, "--set", "per_device_train_batch_size=64")  # a gibibyte for each copy of the scores


def words(model: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "finetui", "plan", "--model", str(model), "--recipe", "cpu-demo", *more]


def plan(model: Path, *more: str, code: int = 0, **how: Any) -> dict[str, Any]:
    done = subprocess.run([*words(model, *more), "--json"], capture_output=True, text=True, check=False, **how)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_chats(folder: Path) -> Path:
    path = folder / "chats.jsonl"
    chats = (
        {"messages": [{"role": "user", "content": "why? " * times}, {"role": "assistant", "content": "Because."}]}
        for times in range(1, 30)
    )
    path.write_text("".join(f"{json.dumps(chat)}\n" for chat in chats))
    return path


def test_two_steps_are_measured_and_the_next_plan_knows(tiny_model: Path, tmp_path: Path) -> None:
    asked = ("--data", str(write_chats(tmp_path)), "--set", "val_size=3", "--set", "optim=adamw_torch")
    found = plan(tiny_model, *asked, "--try")
    tried = found["tried"]
    assert tried["fits"]
    assert 100 << 20 < tried["peak_bytes"] < 4 << 30
    assert tried["predicted_bytes"] == found["predicted_peak_bytes"]
    assert tried["error"] == pytest.approx(tried["predicted_bytes"] / tried["peak_bytes"] - 1, abs=1e-3)
    assert tried["seconds_per_step"] > 0
    assert (tried["measured_by"], tried["lengths_from"]) == ("resident memory", "data")
    assert (tried["rows"], tried["tokens"]) == (found["settings"]["rows_per_step"], found["tokens"]["max"])
    assert plan(tiny_model, *asked)["tried"] == tried
    assert plan(tiny_model, *asked, "--set", "learning_rate=1e-5")["tried"] == tried
    assert plan(tiny_model, *asked, "--set", "r=4")["tried"] is None


@pytest.mark.soak
def test_packed_weights_full_fine_tuning_and_two_processes_are_tried_as_they_are_trained(tiny_model: Path) -> None:
    short = ("--set", "max_length=64", "--try")
    for more in (
        ("--set", "load_in_4bit=true"),
        ("--recipe", "full-a100x4", "--set", "nproc_per_node=1", "--set", "dtype=bfloat16", "--set", "rows_per_step=4"),
        ("--set", "nproc_per_node=2", "--set", "rows_per_step=4", "--set", "per_device_train_batch_size=2"),
    ):
        assert plan(tiny_model, *more, *short)["tried"]["peak_bytes"] > 100 << 20, more


def test_memory_that_runs_out_is_an_answer_and_kept(tiny_model: Path) -> None:
    def scarce() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    done = subprocess.run(
        words(tiny_model, *LARGE, "--try"), preexec_fn=scarce, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert "memory ran out" in done.stdout
    assert "error: two steps ran out of memory" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    tried = plan(tiny_model, *LARGE)["tried"]
    assert (tried["fits"], tried["peak_bytes"]) == (False, None)
    assert "the largest micro batch (65536 tokens) does not fit" in tried["detail"]


def test_a_process_that_the_system_ended_ran_out_of_memory(tmp_path: Path) -> None:
    (tmp_path / "log-0").write_text("")
    assert worker._said(tmp_path, 0, -signal.SIGKILL)["outcome"] == "out-of-memory"
    (tmp_path / "log-0").write_text("terminate called after throwing an instance of 'std::bad_alloc'\n")
    assert worker._said(tmp_path, 0, -signal.SIGABRT)["outcome"] == "out-of-memory"
    (tmp_path / "log-0").write_text("Segmentation fault\n")
    assert worker._said(tmp_path, 0, -signal.SIGSEGV)["outcome"] == "failed"


def test_what_the_trainer_refuses_is_told_with_its_cause(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "broken"
    model.mkdir()
    for path in tiny_model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": "none-such"}))
    (error,) = plan(model, "--set", "max_length=64", "--try", code=1)["errors"]
    assert error["code"] == "tried.failed"
    assert "none-such" in error["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_nothing_is_left_behind_by_a_trial_that_is_broken_off(tiny_model: Path, number: int) -> None:
    many = ("--set", "rows_per_step=4096", "--set", "max_length=1024", "--set", "per_device_train_batch_size=4")
    asked = subprocess.Popen(words(tiny_model, *many, "--try"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = until(lambda: below(asked.pid))
    os.kill(asked.pid, number)
    asked.communicate(timeout=60)
    assert asked.returncode == (130 if number == signal.SIGINT else -number)
    assert psutil.wait_procs(children, timeout=60)[1] == []


def below(pid: int) -> list[psutil.Process]:
    """All processes under one, once the trial's own is among them."""
    found = psutil.Process(pid).children(recursive=True)
    return found if any(MODULE in process.cmdline() for process in found) else []


def until(look: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    """What `look` finds, once it finds anything."""
    last = time.monotonic() + 120
    while time.monotonic() < last:
        if found := look():
            return found
    raise AssertionError("the trial never began")


def test_a_trace_stands_beside_the_formula_and_changes_no_setting(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())  # no weights are needed
    traced, plain = plan(tmp_path, "--trace"), plan(tmp_path)
    trace = traced.pop("trace")
    assert plain.pop("trace") is None
    assert set(trace["breakdown"]) == set(traced["breakdown"])
    assert sum(trace["breakdown"].values()) == trace["predicted_peak_bytes"]
    low, high = traced.pop("band")
    assert low <= trace["predicted_peak_bytes"] <= high
    assert low <= plain["band"][0]
    assert high >= plain.pop("band")[1]
    traced.pop("disk")
    plain.pop("disk")
    assert traced == plain


def test_both_breakdowns_are_shown_side_by_side(tiny_model: Path) -> None:
    done = subprocess.run(words(tiny_model, "--trace"), capture_output=True, text=True, check=True)
    shown = done.stdout.partition("Traced")[2].partition("Settings")[0]
    assert "formula" in shown.splitlines()[1]
    assert "trace" in shown.splitlines()[1]
    (logits,) = [line.split() for line in shown.splitlines() if "logits" in line]
    assert logits[1:3] == logits[3:5]
