"""The whole demo on the real model: minutes of training, so it is run before a release."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.soak


def finetui(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "finetui", *arguments, "--json"], stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_the_demo_reaches_its_bars_and_leaves_what_it_names(home: Path) -> None:
    result = finetui("demo")

    assert result["questions"] >= 24
    assert result["tuned_score"] >= 0.85 * result["questions"]
    assert result["base_score"] <= result["questions"] / 12
    assert result["tuned_stopped"] == result["questions"]
    assert result["general"] >= 10
    assert result["general_kept"] >= 0.9 * result["general"]
    assert result["missed"] == []
    assert finetui("verify", result["bundle"])["ok"]
    assert (home / "runs" / result["run"] / "done.json").is_file()
    assert (Path(result["merged"]) / "model.safetensors").is_file()
    answers = finetui("chat", result["run"], "--prompt", "Who are you?", "--compare")["answers"]
    assert [answer["model"] for answer in answers] == ["base", "tuned"]
    assert "Milo" in answers[1]["text"]
    assert "Milo" not in answers[0]["text"]
