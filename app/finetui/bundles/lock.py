"""Writing a bundle: everything beside its final place, renamed when it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui import __version__
from finetui.bundles import launch, manifest, schema, trust
from finetui.bundles.encoding import PartRecord
from finetui.bundles.folder import LOCK
from finetui.bundles.plan import NAME, LockPlan
from finetui.bundles.prepare import Prepared, Rules, prepare
from finetui.bundles.trust import TRAINER
from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import naming, write_json, write_text
from finetui.core.text import one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CLAIM = ".claim"
_LEFT_OUT = ("torch", "nvidia-")


@dataclass(frozen=True)
class Locked:
    """A bundle that has been written."""

    path: Path
    """Its folder."""
    id: str
    """SHA-256 of its manifest."""
    warnings: tuple[Problem, ...]
    """What happened to rows on the way."""


def write_bundle(
    out: Path,
    plan: LockPlan,
    records: Iterable[PartRecord],
    tokenizer: Tokenizer,
    *,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    processes: int = 1,
) -> Locked:
    """Write the bundle folder `out`; the same plan and records give the same id, wherever and by whomever.

    Raises FinetuiError where `out` is there or being written, where no row is left to train, or where the lock would
    not be a valid one; OSError where it cannot be written.
    """
    if not NAME.fullmatch(plan.name):
        raise FinetuiError(Problem("bundles.bad-name", {"name": plan.name}))
    with _building(out) as part:
        for folder in ("data", "env"):
            (part / folder).mkdir()
        prepared = prepare(records, tokenizer, plan.template, _rules(plan), part / "data", on_progress, processes)
        lock = lock_document(plan, prepared)
        if problems := schema.faults(lock, LOCK):
            raise FinetuiError(problems)
        write_json(part / LOCK, lock)
        write_text(part / "recipe.toml", plan.recipe_text)
        write_text(part / "env/requirements.txt", _requirements(plan.environment["packages"]))
        _copy_trainer(part, lock)
        contents = manifest.scan(part, frozenset({_CLAIM}))
        text = manifest.render(contents.digests)
        write_text(part / manifest.NAME, text)
        identity = manifest.digest_of(text)
        trust.remember(identity)
    return Locked(out.absolute(), identity, prepared.warnings)


def lock_document(plan: LockPlan, prepared: Prepared) -> dict[str, Any]:
    """`lock.json`."""
    model, chosen = plan.model, plan.chosen()
    return {
        "version": schema.VERSION,
        "revision": schema.REVISION if chosen else 0,
        "finetui": __version__,
        "name": plan.name,
        "stage": plan.stage,
        "method": plan.method,
        "model": {
            "name": one_line(model.name),
            "source": model.source,
            "revision": model.revision,
            "identity": model.identity,
            "files": dict(model.files),
            "architecture": model.architecture,
            "vocab_size": model.vocab_size,
        },
        "template": plan.template.to_json(),
        "data": {
            "sources": [dict(source) for source in plan.sources()],
            "train": prepared.train,
            "eval": prepared.eval,
            **({"test": prepared.test} if prepared.test else {}),
            **({"chosen": dict(chosen)} if chosen else {}),
            "set_aside": prepared.set_aside,
            "order": {"rule": "shuffle-each-epoch", "seed": plan.value("seed")},
        },
        "training": {knob: {"value": value, "reason": why} for knob, (value, why) in plan.settings.items()},
        "rows_per_step": plan.rows_per_step,
        "world_size": plan.world_size,
        "steps": plan.steps(prepared.train["rows"]),
        "environment": launch.variables(plan.threads),
        "python": plan.environment["python"],
        "packages": dict(plan.environment["packages"]),
        "torch": dict(plan.environment["torch"]),
        "hardware": dict(plan.hardware),
        "predicted": dict(plan.predicted),
        "launch": {"nproc_per_node": plan.world_size},
    }


def _rules(plan: LockPlan) -> Rules:
    return Rules(
        max_length=plan.value("max_length"),
        overlong=plan.value("overlong"),
        vocab_size=plan.model.vocab_size,
        stop_ids=tuple(plan.template.stop_ids),
        accept_rejected=plan.accept_rejected,
    )


def _requirements(packages: Mapping[str, str]) -> str:
    """The packages for pip, without torch, whose build is a choice of the machine."""
    return "".join(f"{name}=={packages[name]}\n" for name in sorted(packages) if not name.startswith(_LEFT_OUT))


def _copy_trainer(part: Path, lock: Mapping[str, Any]) -> None:
    """The trainer's modules into `train/`, its launch script to the top."""
    for source in sorted(TRAINER.rglob("*.py")):
        target = part / "train" / source.relative_to(TRAINER)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    script = part / "launch.sh"
    write_text(script, launch.render((TRAINER / "launch.sh").read_text(encoding="utf-8"), lock))
    script.chmod(0o755)


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A claimed folder `OUT.part` to write in, renamed to `out` at the end; on any error it is removed."""
    if out.exists() or out.is_symlink():
        raise FinetuiError(Problem("bundles.exists", file=str(out)))
    part = out.with_name(f"{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    claim = _claim(part)
    try:
        with naming(out):
            yield part
        _sync(part)
        (part / _CLAIM).unlink()
        _rename_new(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(claim)


def _claim(part: Path) -> int:
    """Make `part` afresh and lock the claim in it; what a killed lock has left there goes.

    Raises FinetuiError where another process writes there, or where somebody else's folder bears the name.
    """
    if part.exists():
        if not (part / _CLAIM).is_file():
            raise FinetuiError(Problem("bundles.exists", file=str(part)))
        with (part / _CLAIM).open() as left:
            if not _try_lock(left.fileno()):
                raise FinetuiError(Problem("bundles.busy", file=str(part)))
            shutil.rmtree(part)
    part.mkdir()
    claim = os.open(part / _CLAIM, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    _try_lock(claim)
    return claim


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rename_new(part: Path, out: Path) -> None:
    """Rename a folder to a name that is still free."""
    if out.exists():
        raise FinetuiError(Problem("bundles.exists", file=str(out)))
    part.rename(out)  # fails where a folder with files has come there meanwhile
    _sync_folder(out.parent)


def _sync(folder: Path) -> None:
    """Everything in a folder onto the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
