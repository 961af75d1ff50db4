"""Numbers that go wrong: a gradient that explodes is warned of, a loss that is none ends the run, both by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetui.core import events
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.outcome import problem, result
from finetui.wizard import Draft, lock
from tests.unit.runs.support import finetui
from tests.workers.test_runs import _leave_nothing_running  # noqa: F401 (a fixture)

pytestmark = pytest.mark.soak
DAMAGED = "~"
"""The one character whose row in the embedding of the model below holds no numbers."""


@pytest.fixture
def damaged_model(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is whole but for one token, as a download that was cut or a bad merge leaves it."""
    folder = tmp_path / "models/damaged"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    [token] = (
        number
        for sign, number in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].items()
        if sign == DAMAGED
    )
    weights["model.embed_tokens.weight"][token] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setenv("FINETUI_MODELS", str(folder.parent))
    return folder


def bundle(model: Path, folder: Path, *settings: str) -> Path:
    """A bundle of 400 chats that are soon known by heart, one of which holds the damaged token."""
    data = folder / "chats.jsonl"
    with data.open("w") as stream:
        for n in range(400):
            turns = [("user", f"What of {n}{DAMAGED if n == 200 else ''}?"), ("assistant", "It is so.")]
            stream.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    settings = ("num_train_epochs=1", "rows_per_step=4", "omp_num_threads=1", *settings)
    return lock(Draft((str(data),), str(model), "cpu-demo", folder / "chats.bundle", settings)).path


def finite_checkpoints(run: RunFolder) -> list[str]:
    """The complete checkpoints, all of whose weights are numbers."""
    found = []
    for marker in run.checkpoints.glob("checkpoint-*/complete.json"):
        weights = load_file(marker.parent / "adapter_model.safetensors")
        assert all(np.isfinite(tensor).all() for tensor in weights.values())
        found.append(marker.parent.name)
    return sorted(found)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_its_checkpoints(damaged_model: Path, tmp_path: Path) -> None:
    made = bundle(damaged_model, tmp_path, "save_steps=1", "save_total_limit=1")

    done = finetui("run", str(made), "--plain")
    run = find_run("last")
    outcome = result(run)
    told = problem(run, outcome)

    print(f"NaN: exit {done.returncode}, {told.message()}; {told.expected()}; next: {told.next()}")
    assert (done.returncode, outcome["status"], outcome["cause"]) == (1, "failed", "nan"), done.stderr
    assert outcome["steps"] > 0
    assert outcome["detail"] == f"the loss of step {outcome['steps'] + 1} is nan"
    assert finite_checkpoints(run) == [f"checkpoint-{outcome['steps']}"]
    assert not run.output.exists()
    assert (told.next() or "") in done.stderr
    assert "Traceback" not in done.stderr
    again = finetui("resume", run.name, "--json")
    ended = json.loads(again.stdout)
    assert (again.returncode, ended["cause"], ended["steps"]) == (1, "nan", outcome["steps"])


def test_a_gradient_that_explodes_is_warned_of_before_it_ends_as_no_number(damaged_model: Path, tmp_path: Path) -> None:
    settings = ("learning_rate=0.1", "lora_alpha=256", "warmup_steps=100", "lr_scheduler_type=constant_with_warmup")
    made = bundle(damaged_model, tmp_path, *settings)

    done = finetui("run", str(made), "--plain")
    run = find_run("last")
    outcome = result(run)
    warned = [event for event in events.read(run.events) if event["event"] == "warning"]
    report = (run.path / "report.md").read_text()
    print(f"exploding: warned at step {warned[0]['step']}: {warned[0]['text']}; failed after step {outcome['steps']}")
    assert (done.returncode, outcome["status"], outcome["cause"]) == (1, "failed", "nan"), done.stderr
    assert [event["code"] for event in warned][:1] == ["gradient-burst"]
    assert warned[0]["step"] < outcome["steps"]
    assert warned[0]["text"] in done.stderr
    assert "the gradient bursts at" in done.stderr, "the doctor's words"
    assert "the gradient bursts at" in report
