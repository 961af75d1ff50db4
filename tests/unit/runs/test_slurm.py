"""A run that is handed to Slurm: what is asked of sbatch and squeue, and what they answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetui.core.errors import FinetuiError
from finetui.runs.launch import prepare
from finetui.runs.slurm.job import attend, submit
from finetui.runs.state import QUEUED

pytestmark = pytest.mark.unit


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts in place of Slurm's commands: sbatch gives number 7, squeue says that it waits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": "echo 7", "squeue": "echo PENDING", "scancel": "true"}.items():
        answer(folder, name, text)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def answer(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_job_of_one_machine_needs_no_number_of_machines(make_bundle, answers):
    run = prepare(make_bundle().path, slurm=True)
    assert submit(run) == "7"
    attend(run)
    assert (run.status(), run.read().slurm, run.read().nodes) == (QUEUED, "7", 1)
    assert "--nodes=1" in (run.path / "job.sbatch").read_text()


def test_what_sbatch_says_is_shown_where_it_takes_no_job(make_bundle, answers):
    answer(answers, "sbatch", "echo 'sbatch: error: invalid partition specified: \x1b[31mfast' >&2; exit 1")
    run = prepare(make_bundle().path, slurm=True)
    with pytest.raises(FinetuiError) as error:
        submit(run)
    assert "invalid partition specified: fast" in error.value.problems[0].message("en")
    assert error.value.exit_code == 1
    assert run.status() == "failed"
