"""A disk that fills up within a checkpoint: the last good one stays, what to free is told, and the run goes on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from finetui.core.files import read_json, sha256_file
from finetui.runs import processes
from finetui.runs.folder import RunFolder
from finetui.runs.following import follow
from finetui.runs.launch import launch, prepare, start
from finetui.runs.outcome import problem, result
from finetui.runs.removing import size
from tests.unit.runs.support import finetui, wait_until
from tests.workers.test_runs import _leave_nothing_running, make_bundle, run_to_end  # noqa: F401 (fixtures)

pytestmark = pytest.mark.soak
SETTINGS = ("max_steps=60", "save_steps=5", "save_total_limit=2", "lora_dropout=0.1")
SCRAPS = 64 << 10
"""Bytes that are left on the disk: less than a checkpoint takes."""


@contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """Within it, `folder` is a disk of its own of that size."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def whole_checkpoints(run: RunFolder) -> list[str]:
    """The complete checkpoints by name, each of whose files has the digest that its marker says."""
    found = []
    for marker in run.checkpoints.glob("checkpoint-*/complete.json"):
        files = read_json(marker)["files"]
        assert {name: sha256_file(marker.parent / name) for name in files} == files
        found.append(marker.parent.name)
    return sorted(found)


def fill(path: Path) -> None:
    """Let one file take all that is free on its disk but for scraps."""
    path.parent.mkdir(parents=True)
    with path.open("wb", buffering=0) as stream:
        with suppress(OSError):
            while stream.write(bytes(1 << 20)):
                pass
        stream.truncate(stream.tell() - SCRAPS)


def test_a_home_that_is_full_is_freed_as_told_and_the_run_ends_as_the_unbroken_one(
    make_bundle: Callable[..., Path],  # noqa: F811
    home: Path,
) -> None:
    with disk(home, "640m"), ExitStack() as at_last:
        bundle = make_bundle(*SETTINGS)
        old = run_to_end(bundle, name="old")
        expected = result(old)["adapter_sha256"]
        run = start(bundle)
        at_last.callback(processes.kill_run, run.path)
        wait_until(lambda: whole_checkpoints(run), "the first checkpoint", 120)
        fill(old.path / "merged/model.safetensors")

        list(follow(run))
        outcome = result(run)
        left = whole_checkpoints(run)
        told = problem(run, outcome)

        assert (outcome["status"], outcome["cause"]) == ("failed", "disk-full"), outcome["detail"]
        assert left
        assert not (run.checkpoints / ".part").exists()
        assert old.name in (told.expected() or "")
        print(f"home: failed at step {outcome['steps']}, {left} left; {told.expected()}; next: {told.next()}")
        refusal = finetui("resume", run.name, "--json")
        assert refusal.returncode == 5, refusal.stdout
        assert finetui("rm", old.name, "--yes").returncode == 0
        done = finetui("resume", run.name, "--json")

        assert done.returncode == 0, done.stderr
        ended = json.loads(done.stdout)
        assert f"checkpoint-{ended['resumed_from']}" in left
        assert (ended["status"], ended["adapter_sha256"]) == ("finished", expected)
        print(f"home: resumed from step {ended['resumed_from']}, equal to the unbroken run")


def test_a_disk_of_the_checkpoints_own_is_the_one_that_is_named(
    make_bundle: Callable[..., Path],  # noqa: F811
) -> None:
    bundle = make_bundle(*SETTINGS)
    unbroken = run_to_end(bundle)
    expected, checkpoint = result(unbroken)["adapter_sha256"], size(next(unbroken.checkpoints.iterdir()))
    run = prepare(bundle)
    with disk(run.checkpoints, f"{checkpoint * 5 // 2048}k"), ExitStack() as at_last:
        at_last.callback(processes.kill_run, run.path)
        launch(run)
        list(follow(run))
        outcome = result(run)
        left = whole_checkpoints(run)
        told = problem(run, outcome)

        assert (outcome["status"], outcome["cause"]) == ("failed", "disk-full"), outcome["detail"]
        assert left
        assert str(run.checkpoints) in (told.expected() or "")
        print(f"checkpoints: failed at step {outcome['steps']}, {left} left; {told.expected()}")
        subprocess.run(["mount", "-o", "remount,size=40m", str(run.checkpoints)], check=True)
        done = finetui("resume", run.name, "--json")

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["adapter_sha256"] == expected
        print(f"checkpoints: resumed from step {json.loads(done.stdout)['resumed_from']}, equal to the unbroken run")
