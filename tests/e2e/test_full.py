"""Full fine-tuning as a user walks it: the result is a model, to be talked to, with nothing to merge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.shell import Shell
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.e2e

RECIPE = """
[recipe]
name = "whole"
stage = "sft"
method = "full"

[train]
max_steps = 2
per_device_train_batch_size = 2
dtype = "float32"
"""


def test_a_model_is_trained_whole_talked_to_and_not_merged(shell: Shell, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    (tmp_path / "whole.toml").write_text(RECIPE)
    shell("convert", "raw.json", "--out", str(tmp_path / "data"))
    data = str(tmp_path / "data" / "data.jsonl")
    bundle = str(tmp_path / "whole.bundle")
    shell("lock", "--model", str(model), "--data", data, "--recipe", str(tmp_path / "whole.toml"), "--out", bundle)

    done = subprocess.run(
        [sys.executable, "-m", "finetui", "run", bundle, "--model", str(model), "--plain"],
        capture_output=True,
        text=True,
        env=shell.environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = next((shell.root / "home" / "runs").glob("*-whole"))
    assert f"next: finetui chat {folder.name}" in done.stdout + done.stderr
    assert (folder / "output" / "model.safetensors").is_file()

    answer = shell("chat", folder.name, "--prompt", "Who are you?")
    assert isinstance(answer["answers"][0]["text"], str)
    (problem,) = shell("merge", folder.name, code=3)["errors"]
    assert problem["code"] == "merge.whole"
