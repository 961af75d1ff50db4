"""Going on with a run that has ended before its time: what it was must be what it is, down to the last setting that
decides the result; its trainer finds the newest complete checkpoint by itself.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.bundles.folder import Bundle
from finetui.bundles.needs import packages_of
from finetui.bundles.trust import check_trust
from finetui.core import jobs
from finetui.core.errors import BAD_INPUT, MACHINE, MISMATCH, USAGE, FinetuiError, Problem
from finetui.core.files import canonical_json, read_json
from finetui.core.jobs import Progress
from finetui.core.knobs import Value, knobs
from finetui.hardware.probe import Machine, probe
from finetui.runs import processes, queue
from finetui.runs.after import check_then
from finetui.runs.folder import RunFolder
from finetui.runs.launch import FreeBytes, adopt, check_disk, check_unchanged, locked_model
from finetui.runs.outcome import standing
from finetui.runs.state import FINISHED, LIVE, RunState

LEFTOVERS_S = 30.0
"""How long processes of the launch before may take to end."""
_POLL_S = 0.1
_FIXED = frozenset({"nproc_per_node", "parallelism"})
"""They leave the result as it is within rounding, but each process keeps random numbers of its own."""
_CHOOSING = frozenset({"save_steps", "eval_steps"})
"""They decide which checkpoint is the best, where that one is the result."""


def prepare_resume(
    run: RunFolder,
    *,
    changes: Mapping[str, Value] | None = None,
    model: str | None = None,
    python: str | None = None,
    gpus: str | None = None,
    trust: str | None = None,
    wait: bool = False,
    then: str | None = None,
    on_finish: str | None = None,
    on_progress: Progress | None = None,
    free_bytes: FreeBytes = lambda path: shutil.disk_usage(path).free,
    machine: Machine | None = None,
) -> RunFolder:
    """Check all that going on depends on, and make the run ready to be launched once more in its folder.

    Raises FinetuiError: exit 3 for a run that lives or is finished, 4 for a bundle or model that is no longer what was
    trained, naming what differs, 2 for a setting that may not change, 5 where this machine cannot.
    """
    adopt(run)
    state = run.read()
    _check_ended(run, state)
    _await_leftovers(run)
    bundle = Bundle.load(Path(state.bundle))
    _check_same(run, state, bundle)
    if not (bundle.path / "train" / "resume.py").is_file():
        raise FinetuiError(Problem("resume.old-trainer", {"run": run.name, "bundle": state.bundle}), BAD_INPUT)
    check_trust(bundle, trust)
    follows = check_then(then, bundle.lock)
    changed = allowed_changes(state.changes, bundle.lock, changes or {})
    folder = locked_model(bundle, model or _present(state.model), on_progress)
    interpreter = jobs.interpreter(python or state.python)
    jobs.run("environment", {"more": packages_of(bundle.lock)}, python=interpreter)
    check_disk(free_bytes, {})  # what its checkpoints need, they have
    with queue.turnstile():
        state = run.read()
        _check_ended(run, state)  # another command may have been quicker
        again = replace(
            state.again(),
            model=str(folder.absolute()),
            python=interpreter,
            gpus=gpus or state.gpus,
            resumes=True,
            resumed=time.time(),
            changes=canonical_json(changed) if changed else "",
            then=follows,
            on_finish=on_finish,
        )
        if not again.slurm:
            again = queue.enter(again, (machine or probe()).gpus, wait=wait)
        run.done.unlink(missing_ok=True)  # of a launch that was killed right after it; its last steps are made again
        run.write(again.held_by(processes.Identity.of(os.getpid())))
    return run


def _check_ended(run: RunFolder, state: RunState) -> None:
    status = standing(run, state).status
    if status in LIVE:
        raise FinetuiError(Problem("resume.lives", {"run": run.name, "status": status}), BAD_INPUT)
    if status == FINISHED:
        raise FinetuiError(Problem("resume.finished", {"run": run.name, "output": str(run.output)}), BAD_INPUT)


def _await_leftovers(run: RunFolder) -> None:
    """Wait for processes of the launch before, its supervisor among them: two in one folder would spoil both."""
    deadline = time.monotonic() + LEFTOVERS_S
    while left := processes.of_run(run.path, [os.getpid()]):
        if time.monotonic() > deadline:
            pids = ", ".join(map(str, left))
            raise FinetuiError(Problem("resume.leftovers", {"run": run.name, "pids": pids}), MACHINE)
        time.sleep(_POLL_S)


def _check_same(run: RunFolder, state: RunState, bundle: Bundle) -> None:
    """Raises FinetuiError (exit 4) where the bundle is not the one that the run began with, with all that differs."""
    check_unchanged(bundle)
    if bundle.id == state.bundle_id:
        return
    then = _trained_with(run)
    now = _facts_of(bundle.lock)
    differing = [
        Problem("resume.differs", {"run": run.name, "what": name, "then": str(then.get(name)), "now": str(now[name])})
        for name in now
        if then and then.get(name) != now[name]
    ]
    facts = {"run": run.name, "bundle": state.bundle, "then": state.bundle_id[:12], "now": bundle.id[:12]}
    raise FinetuiError([Problem("resume.other-bundle", facts), *differing], MISMATCH)


def _trained_with(run: RunFolder) -> dict[str, Any]:
    """What the newest readable checkpoint says of the lock that it was made with."""
    markers = sorted(run.checkpoints.glob("checkpoint-*/complete.json"), key=lambda path: path.stat().st_mtime)
    for marker in reversed(markers):
        try:
            lock = read_json(marker)["lock"]
            return {**lock, **lock["settings"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def _facts_of(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a lock."""
    data, training = lock["data"], lock["training"]
    weights = {name: digest for name, digest in lock["model"]["files"].items() if name.endswith(".safetensors")}
    return {
        "method": lock["method"],
        "model": weights,
        "train": data["train"]["digest"],
        "eval": data["eval"]["digest"] if data.get("eval") else None,
        **{name: lock[name] for name in ("world_size", "rows_per_step", "steps")},
        **{name: knob["value"] for name, knob in training.items()},
    }


def allowed_changes(earlier: str, lock: Mapping[str, Any], asked: Mapping[str, Value]) -> dict[str, Value]:
    """All settings that hold in place of the lock's: `earlier` ones (JSON) and `asked`, rows of a step kept.

    Raises FinetuiError (exit 2) with every setting that would change the result, or makes no whole step.
    """
    training: Mapping[str, Any] = lock["training"]
    free = changeable(lock)
    if wrong := [name for name in asked if name not in free]:
        names = ", ".join(sorted(free))
        raise FinetuiError([Problem("resume.fixed-knob", {"knob": name, "free": names}) for name in wrong], USAGE)
    changes: dict[str, Value] = {**json.loads(earlier or "{}"), **asked}
    held = {name: knob["value"] for name, knob in training.items()} | changes
    micro = held["per_device_train_batch_size"] * lock["world_size"]
    if "per_device_train_batch_size" in asked and "gradient_accumulation_steps" not in asked:
        held["gradient_accumulation_steps"] = math.ceil(lock["rows_per_step"] / micro)
        changes["gradient_accumulation_steps"] = held["gradient_accumulation_steps"]
    if (room := micro * held["gradient_accumulation_steps"]) < lock["rows_per_step"]:
        facts = {"rows": lock["rows_per_step"], "room": room, "steps": math.ceil(lock["rows_per_step"] / micro)}
        raise FinetuiError(Problem("resume.too-small", facts), USAGE)
    return {name: value for name, value in changes.items() if value != training[name]["value"]}


def changeable(lock: Mapping[str, Any]) -> set[str]:
    """The settings that a resumed run of this lock may have otherwise: memory and speed alone change with them."""
    free = {name for name, knob in knobs().items() if knob.changes == "memory" and name in lock["training"]} - _FIXED
    picks_best = lock["training"].get("load_best_model_at_end", {}).get("value")
    return free - _CHOOSING if picks_best else free


def _present(folder: str) -> str | None:
    """The model's folder where it is still there; else it is looked for."""
    return folder if Path(folder).is_dir() else None
