"""`rm` and `clean`: what goes, and what never does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from finetui.cli.main import run as finetui
from finetui.core import home as places
from finetui.core.errors import BAD_INPUT, FinetuiError
from finetui.runs.folder import RunFolder, list_runs
from finetui.runs.launch import start
from finetui.runs.removing import clutter, largest_runs, remove_run
from finetui.runs.stopping import stop
from tests.unit.runs.conftest import GATED
from tests.unit.runs.support import Terminal
from tests.unit.runs.test_finding import make_run

pytestmark = pytest.mark.unit

OLD = time.time() - 30 * 86400


def write(path: Path, content: bytes = b"x" * 1000, *, old: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if old:
        for one in (path, path.parent):
            os.utime(one, (OLD, OLD))
    return path


def full_run(home: Path, name: str, status: str, *, ended: float = OLD) -> RunFolder:
    """An ended run with a result, a whole checkpoint, half of one, and half a file."""
    run = make_run(name, home, status=status, ended=ended)
    write(run.output / "adapter_model.safetensors")
    if status == "finished":
        write(run.done, b"{}")
    write(run.checkpoints / "checkpoint-2/complete.json", b"{}")
    write(run.checkpoints / "checkpoint-3/optimizer.pt")
    write(run.path / "train.log.part")
    return run


def kinds(**options) -> dict[str, str]:
    runs = places.folder("runs")
    return {
        str(item.path.relative_to(runs)): item.kind for item in clutter(**options) if item.path.is_relative_to(runs)
    }


def test_rm_removes_a_run_and_all_that_is_in_it(home, capsys):
    run, other = (full_run(home, f"20260101-00000{n}-tiny", "finished") for n in (1, 2))

    assert finetui(["rm", run.name, run.name, "--yes", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert [gone["run"] for gone in said["removed"]] == [run.name]
    assert said["freed"] >= 3000
    assert list_runs() == [other]
    assert [path.name for path in (home / "runs").iterdir() if path.is_dir()] == [other.name]


def test_a_run_that_lives_is_not_removed_and_no_other_with_it(make_bundle, home):
    lives = start(make_bundle(GATED).path)
    ended = full_run(home, "20260101-000001-tiny", "finished")

    assert finetui(["rm", lives.name, ended.name, "--yes"]) == BAD_INPUT
    with pytest.raises(FinetuiError) as error:
        remove_run(lives)

    assert error.value.problems[0].next("en") == f"finetui stop {lives.name}"
    assert set(list_runs()) == {lives, ended}
    stop(lives, now=True)
    assert remove_run(lives) > 0


def test_rm_asks_and_where_nobody_can_answer_refuses(home, capsys):
    run = full_run(home, "20260101-000001-tiny", "stopped")

    assert finetui(["rm", run.name]) == 2
    assert f"finetui rm {run.name} --yes" in capsys.readouterr().err
    terminal = Terminal("rm", run.name)
    terminal.read_until("Remove 1 run(s)")
    terminal.type("n\n")
    assert terminal.exit_code() == 0
    assert run.exists()
    terminal = Terminal("rm", run.name)
    terminal.read_until("Remove 1 run(s)")
    terminal.type("y\n")
    assert terminal.exit_code() == 0
    assert not run.exists()


def test_a_broken_run_can_be_removed_too(home):
    run = full_run(home, "20260101-000001-tiny", "finished")
    (run.path / "state.json").write_text("{")

    assert finetui(["rm", run.name, "--yes"]) == 0
    assert not run.path.exists()


def test_clean_takes_what_nobody_needs_and_leaves_results_and_what_resume_needs(home):
    done = full_run(home, "20260101-000001-done", "finished")
    stopped = full_run(home, "20260101-000002-stopped", "stopped")
    young = full_run(home, "20260101-000003-young", "finished", ended=time.time())
    (young.path / "train.log.part").touch()
    for folder in young.checkpoints.iterdir():
        os.utime(folder)
    write(home / "cache/profiles/old.json")
    write(home / "cache/locked/keep.json")
    write(home / "cache/new.json", old=False)

    found = kinds()

    assert found == {
        f"{done.name}/checkpoints/checkpoint-2": "checkpoint",
        f"{done.name}/checkpoints/checkpoint-3": "checkpoint",
        f"{done.name}/train.log.part": "part",
        f"{stopped.name}/checkpoints/checkpoint-3": "half-checkpoint",
        f"{stopped.name}/train.log.part": "part",
    }
    assert finetui(["clean", "--dry-run"]) == 0
    assert kinds() == found
    assert finetui(["clean", "--yes"]) == 0
    assert kinds() == {}
    assert (done.output / "adapter_model.safetensors").exists()
    assert (stopped.checkpoints / "checkpoint-2/complete.json").exists()
    assert [path.name for path in sorted((home / "cache").iterdir())] == ["locked", "new.json"]


def test_clean_touches_nothing_of_a_run_that_lives(make_bundle):
    run = start(make_bundle(GATED).path)
    write(run.checkpoints / "checkpoint-3/optimizer.pt")
    write(run.path / "train.log.part")

    assert kinds(days=0) == {}


def test_what_a_killed_removal_has_left_is_no_run_and_is_cleaned(home):
    write(home / "runs/.rm-20260101-000001-tiny-99/output/adapter_model.safetensors")

    assert list_runs() == []
    assert kinds() == {".rm-20260101-000001-tiny-99": "run"}


def test_a_full_disk_names_the_largest_runs_that_can_go(home):
    mine = full_run(home, "20260101-000001-mine", "failed")
    large, small = (full_run(home, f"20260101-00000{n}-other", "finished") for n in (2, 3))
    write(large.output / "more", b"x" * 9000)

    assert [name for name, _ in largest_runs(mine)] == [large.name, small.name]
