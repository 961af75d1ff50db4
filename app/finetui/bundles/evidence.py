"""What the first finished run of a bundle gave: written once beside the bundle's own files, held against by replays."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from finetui.bundles import manifest
from finetui.bundles.folder import Bundle
from finetui.bundles.verify import BUNDLE_MANIFEST, EVIDENCE_FILE, verify
from finetui.core import events
from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import canonical_json, read_json, write_json, write_text
from finetui.hardware.kind import kind_used
from finetui.hardware.probe import Machine, probe

VERSION = 1
STEPS_FILE = "steps.jsonl"


@dataclass(frozen=True)
class StepEvidence:
    """One optimizer step, its numbers exactly as they were computed."""

    step: int
    """Counted from 1."""
    loss: float
    """Over the trained tokens of the global batch."""
    grad_norm: float | None
    """Norm of the gradient before clipping."""
    batch_digest: str
    """16 hex digits that stand for the rows of the step, in any order."""


@dataclass(frozen=True)
class Evidence:
    """What a bundle gave when it was first run."""

    bundle_id: str
    """The bundle that it belongs to."""
    hardware: Mapping[str, Any]
    """The hardware kind that it ran on."""
    packages: Mapping[str, str | None]
    """The versions that it ran with."""
    python: str
    """The Python that it ran under."""
    world_size: int
    """Training processes."""
    final_loss: float
    """The last step's loss."""
    outputs: Mapping[str, str]
    """SHA-256 of what came out, by file name."""
    steps: tuple[StepEvidence, ...]
    """Every optimizer step, in order."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings of memory and speed that were otherwise than locked since the run was resumed."""


def write(bundle: Path, run_dir: Path, machine: Machine | None = None) -> Path | None:
    """Fill `evidence/` from a finished run; None where there is evidence already, which is never replaced.

    Raises FinetuiError where the bundle is not what was run or the run is not whole; OSError where the bundle cannot be
    written.
    """
    loaded = Bundle.load(bundle)
    target = loaded.path / manifest.EVIDENCE
    part = loaded.path / f"{manifest.EVIDENCE}.part"
    with _alone(loaded.path):
        if os.path.lexists(target):
            return None
        shutil.rmtree(part, ignore_errors=True)
        if not verify(loaded.path)["ok"]:
            raise FinetuiError(Problem("bundles.changed", {"path": str(bundle)}, str(bundle)))
        found = collect(loaded, run_dir, machine or probe())
        part.mkdir()
        try:
            _write_files(part, found)
            part.rename(target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return target


def read(bundle: Path) -> Evidence | None:
    """The evidence of a bundle folder, or None where it has none.

    Raises FinetuiError where it is there and cannot be read.
    """
    folder = bundle / manifest.EVIDENCE
    if not os.path.lexists(folder):
        return None
    try:
        if folder.is_symlink():
            raise ValueError("a symlink")
        text, _ = manifest.read(folder / EVIDENCE_FILE)
        facts = json.loads(text)
        if facts.pop("v") != VERSION:
            raise ValueError("of another version")
        lines, _ = manifest.read(folder / STEPS_FILE)
        return _checked(Evidence(**facts, steps=tuple(StepEvidence(**json.loads(line)) for line in lines.splitlines())))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FinetuiError(Problem("bundles.bad-evidence", {"error": str(error)}, str(folder))) from error


def collect(bundle: Bundle, run_dir: Path, machine: Machine) -> Evidence:
    """What a run folder holds of evidence.

    Raises FinetuiError where the run is of another bundle, or did not go through all its steps.
    """
    partial = FinetuiError(Problem("bundles.partial-run", {"run": str(run_dir)}, str(run_dir)))
    try:
        record = read_json(run_dir / "done.json")
        state = read_json(run_dir / "state.json") if (run_dir / "state.json").exists() else {}
        told = run_dir / events.TRAINER_FILE
        started = next(event for event in events.read(told) if event["event"] == "started")
        steps = {event["step"]: event for event in events.steps(told)}
        if state.get("bundle_id", bundle.id) != bundle.id or record["stopped_early"]:
            raise partial
        if sorted(steps) != list(range(1, bundle.lock["steps"] + 1)):
            raise partial
        return Evidence(
            bundle_id=bundle.id,
            hardware=kind_used(record["hardware"], machine),
            packages=started["packages"],
            python=started["python"],
            world_size=record["world_size"],
            final_loss=record["final_loss"],
            outputs=record["outputs"],
            steps=tuple(
                StepEvidence(step, event["loss"], event["grad_norm"], event["batch_digest"])
                for step, event in sorted(steps.items())
            ),
            changes=record.get("changes", {}),
        )
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise partial from error


def _write_files(folder: Path, found: Evidence) -> None:
    """The evidence, a line a step, and a manifest that also lists the bundle's: whose digest is the bundle id."""
    facts = {"v": VERSION, **asdict(found)}
    steps = facts.pop("steps")
    if not found.changes:
        del facts["changes"]
    write_json(folder / EVIDENCE_FILE, facts)
    write_text(folder / STEPS_FILE, "".join(f"{canonical_json(step)}\n" for step in steps))
    digests = manifest.scan(folder, frozenset()).digests
    write_text(folder / manifest.NAME, manifest.render({**digests, BUNDLE_MANIFEST: found.bundle_id}))


def _checked(found: Evidence) -> Evidence:
    """The same evidence.

    Raises ValueError where a value is of another kind than its field says.
    """
    numbers = all(
        type(step.step) is int
        and isinstance(step.loss, float)
        and isinstance(step.grad_norm, (float, NoneType))
        and isinstance(step.batch_digest, str)
        for step in found.steps
    )
    tables = all(isinstance(table, dict) for table in (found.hardware, found.packages, found.outputs, found.changes))
    if not (numbers and tables and isinstance(found.bundle_id, str) and type(found.world_size) is int):
        raise ValueError("a value of another kind than it should be")
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a bundle folder against other writers of its evidence."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
