"""The doctor's look at a real training interpreter."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from finetui.cli.main import run
from finetui.doctor.interpreter import ask_interpreter

pytestmark = pytest.mark.worker


def test_the_training_interpreter_is_really_tried(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["doctor", "--for", "qlora", "--json"])
    told = json.loads(capsys.readouterr().out)
    codes = {finding["code"] for finding in told["findings"] if finding["level"] == "ok"}
    assert status == 0, told["findings"]
    assert {"doctor.python-ok", "doctor.packages-ok", "doctor.torch-ok", "doctor.bitsandbytes-ok"} <= codes
    assert told["machine"]["python"]["packages"]["torch"] == version("torch")


def test_every_stage_is_told_as_it_comes() -> None:
    there = ask_interpreter(None)
    assert there.problem is None
    assert list(there.found) == ["python", "packages", "torch", "imports", "bitsandbytes", "flash_attention"]
    assert there.stage("python")["is_managed"] is False
    assert all(error is None for error in there.stage("imports").values())
