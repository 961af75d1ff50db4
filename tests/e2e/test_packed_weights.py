"""QLoRA from data to answer, on a CPU: the base in 4 bits while it trains, in 16 when it is merged and asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Shell, interpreter_without

pytestmark = pytest.mark.e2e

SETTINGS = ("max_steps=3", "rows_per_step=2", "learning_rate=5e-3", "r=8")
ARGUMENTS = ("--model", "demo", "--data", "raw.json", "--recipe", "qlora-3090")


@pytest.fixture(scope="module")
def bundle(shell: Shell) -> Path:
    """A bundle of three steps by the recipe for a 24 GB card."""
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    locked = shell("lock", *ARGUMENTS, *sets, "--out", "packed.bundle")
    assert shell("verify", "packed.bundle")["id"] == locked["id"]
    lock = json.loads((shell.root / "packed.bundle" / "lock.json").read_text())
    values = {name: knob["value"] for name, knob in lock["training"].items()}
    assert (values["load_in_4bit"], values["bnb_4bit_quant_type"]) == (True, "nf4")
    assert "bitsandbytes" in (shell.root / "packed.bundle" / "env" / "requirements.txt").read_text()
    return shell.root / "packed.bundle"


@pytest.fixture(scope="module")
def finished(shell: Shell, bundle: Path) -> dict[str, Any]:
    """The result of its run."""
    result = shell("run", str(bundle))
    assert (result["status"], result["steps"]) == ("finished", 3)
    return result


def test_without_bitsandbytes_nothing_starts_and_the_mending_command_is_named(
    shell: Shell, bundle: Path, tmp_path: Path
) -> None:
    python = str(interpreter_without(tmp_path / "bare", {"bitsandbytes"}))
    (error,) = shell("run", str(bundle), "--python", python, code=5)["errors"]
    assert error["code"] == "hardware.missing-package"
    assert error["next"].endswith("-m pip install bitsandbytes")
    (error,) = shell("lock", *ARGUMENTS, "--python", python, "--out", "x.bundle", code=5)["errors"]
    assert "bitsandbytes" in error["next"]
    assert not (shell.root / "x.bundle").exists()


@pytest.mark.soak
def test_a_replay_reproduces_the_run_bit_for_bit(shell: Shell, bundle: Path, finished: dict[str, Any]) -> None:
    replay = shell("replay", str(bundle), "--steps", "2")
    assert (replay["reproduced"], replay["kind"]) == (True, "exact")


@pytest.mark.soak
def test_merged_into_the_original_and_asked(shell: Shell, finished: dict[str, Any]) -> None:
    merged = shell("merge", finished["run"], "--out", "unpacked")
    assert merged["loads_offline"] is True
    assert merged["kl"] < 0.1 * merged["adapter_kl"]
    trained_on = merged["quantized_base"]
    assert (trained_on["type"], trained_on["why_not"]) == ("nf4", None)
    assert trained_on["kl"] > merged["kl"]
    assert merged["near_trained"] is False  # a model as small as this one loses much in 4 bits
    config = json.loads((shell.root / "unpacked" / "config.json").read_text())
    assert "quantization_config" not in config
    question = ("--prompt", "What is the capital of France?", "--max-new-tokens", "16")
    base, tuned = shell("chat", finished["run"], *question, "--compare")["answers"]
    assert "Paris" in base["text"]
    assert tuned["tokens"] > 0
    assert shell("chat", "unpacked", *question)["answers"][0]["tokens"] > 0
