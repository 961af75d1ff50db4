"""What `lock` makes of a plan: another machine, what does not fit, what nothing trains."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError
from finetui.draft import Draft
from finetui.wizard import lock, plan
from tests.e2e.shell import interpreter_without

pytestmark = pytest.mark.unit


@pytest.fixture
def draft(tmp_path: Path, tiny_model: Path) -> Draft:
    """Twenty chats for the tiny model."""
    data = tmp_path / "chats.jsonl"
    rows = (
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n + 1}. " * (n + 1)}]
        for n in range(20)
    )
    data.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows))
    return Draft((str(data),), str(tiny_model), "lora-3090", tmp_path / "mine.bundle")


def refused(draft: Draft) -> tuple[int, list[str]]:
    with pytest.raises(FinetuiError) as error:
        lock(draft)
    assert not draft.out.exists()
    return error.value.exit_code, [problem.code for problem in error.value.problems]


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "lock.json").read_text())
    return found


@pytest.mark.parametrize("gpu", [None, "rtx3090", "a100-80g:2"])
def test_what_was_planned_is_what_is_locked(gpu: str | None, draft: Draft) -> None:
    draft = replace(draft, gpu=gpu, assignments=("val_size=5",))
    made = plan(draft).to_json()
    locked = read(lock(draft).path)
    for name, entry in locked["training"].items():
        assert entry["value"] == made["settings"][name], name
        assert entry["reason"] == made["reasons"][name], name
    assert (locked["steps"], locked["rows_per_step"]) == (made["steps"], made["settings"]["rows_per_step"])


def test_a_lock_for_another_machine_says_which(draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", draft.model, "--data", *draft.data, "--recipe", "lora-3090", "--out", str(draft.out)]
    assert run(["lock", *words, "--gpu", "rtx3090:2"]) == 0
    locked = read(draft.out)
    hardware = locked["hardware"]
    assert (hardware["device"], hardware["kind"], hardware["count"]) == ("cuda", "rtx3090", 2)
    assert (locked["world_size"], locked["training"]["dtype"]["value"]) == (2, "bfloat16")


def test_what_only_the_other_machine_needs_is_told_and_not_asked_for_here(draft: Draft, tmp_path: Path) -> None:
    python = str(interpreter_without(tmp_path / "bare", {"bitsandbytes"}))
    packed = replace(draft, recipe="qlora-3090", python=python)
    code, codes = refused(packed)
    assert (code, set(codes)) == (MACHINE, {"rules.no-bitsandbytes"})
    locked = lock(replace(packed, gpu="rtx3090"))
    (told,) = [each for each in locked.warnings if each.code == "plan.install-there"]
    assert "bitsandbytes" in told.message("en")
    assert read(locked.path)["training"]["load_in_4bit"]["value"] is True


def test_what_does_not_fit_is_not_locked_unless_that_is_accepted(
    draft: Draft, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.recipes.resolve.device._free", lambda gpu: 1 << 20)
    large = replace(draft, gpu="rtx3090")
    code, codes = refused(large)
    assert (code, codes) == (MACHINE, ["plan.too-large"])
    words = ["--model", draft.model, "--data", *draft.data, "--recipe", "lora-3090", "--out", str(draft.out)]
    assert run(["lock", *words, "--gpu", "rtx3090"]) == 5
    shown = capsys.readouterr().err
    assert "--accept-memory" in shown
    assert f"next: finetui plan --model {draft.model} --data" in shown
    assert "--gpu rtx3090" in shown
    assert run(["lock", *words, "--gpu", "rtx3090", "--accept-memory"]) == 0
    assert read(draft.out)["training"]["gradient_checkpointing"]["value"] is True


def test_what_nothing_trains_is_planned_and_not_locked(draft: Draft, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = ({"prompt": f"{n}?", "chosen": f"{n + 1}.", "rejected": "Who knows."} for n in range(9))
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    preferences = replace(draft, recipe="dpo-lora", data=(str(pairs),))
    made = plan(preferences)
    assert made.fits
    assert [problem.code for problem in made.untrained] == ["rules.no-trainer"]
    assert refused(preferences) == (BAD_INPUT, ["rules.no-trainer"])


def test_a_plan_names_the_command_that_locks_it(draft: Draft, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", draft.model, "--data", *draft.data, "--recipe", "lora-3090"]
    assert run(["plan", *words, "--price", "1"]) == 0
    line = f"next: finetui lock --model {draft.model} --data {draft.data[0]} --recipe lora-3090 --out NAME.bundle"
    assert line in capsys.readouterr().err
    words[-1] = "dpo-lora"
    assert run(["plan", *words[:2], *words[4:]]) == 0
    assert "finetui lock" not in capsys.readouterr().err
