"""From what a person names, a run or an adapter, to a merged model: which base, which rows, which template."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from finetui.bundles.folder import read_lock
from finetui.bundles.rows import read_rows
from finetui.core.errors import BAD_INPUT, MISMATCH, FinetuiError, Problem
from finetui.core.jobs import Progress
from finetui.core.text import one_line
from finetui.hardware.probe import probe
from finetui.models import find_by_identity, find_model, matches
from finetui.models.adapter import CONFIG, read_adapter
from finetui.models.held import cut
from finetui.models.merge import Chat, merge
from finetui.models.merged import Merged, Quantization
from finetui.models.weights import ADAPTER
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.outcome import standing


@dataclass(frozen=True)
class Subject:
    """What is to be merged."""

    adapter: Path
    """The adapter's folder."""
    out: Path
    """Where the merged model goes by default."""
    bundle: Path | None = None
    """The bundle that it was trained from, where that is known and there."""
    near: tuple[Path, ...] = ()
    """Where the base model lay when it was trained."""
    lock: dict[str, Any] = field(default_factory=dict)
    """The bundle's lock."""
    name: str = ""
    """What to call it: the run's name, with that of the checkpoint; that of the folder."""


def merge_reference(
    reference: str,
    *,
    model: str | None = None,
    out: Path | None = None,
    python: str | None = None,
    on_progress: Progress | None = None,
) -> Merged:
    """Merge a run (name, prefix, path, `last`) or an adapter folder into its base model.

    The base is `model`, else the one that the run's bundle locks, else what the adapter names. Raises FinetuiError
    (exit 4) where `model` is not the base that the bundle locks, and what `find_run`, `find_model` and `merge` raise.
    """
    subject = find_subject(reference)
    base = find_base(subject, model, on_progress)
    return merge(
        subject.adapter,
        base,
        out or subject.out,
        available_bytes=min(int(psutil.virtual_memory().available), probe().ram_bytes),
        rows=_rows(subject.bundle) or None,
        chat=_chat(subject.lock),
        quantization=quantization_of(subject.lock),
        python=python,
        on_progress=on_progress,
    )


def find_subject(reference: str) -> Subject:
    """The adapter that a reference means: a folder with an adapter, else a run.

    Raises FinetuiError (exit 3) where there is neither, or the run has no adapter, be it that it trained all weights.
    """
    folder = Path(reference).expanduser()
    if (folder / CONFIG).is_file():
        place = folder.resolve()
        if (run := RunFolder(place.parent)).exists() and run.output == place:
            return _of_run(run)
        if (run := RunFolder(place.parent.parent)).exists() and run.checkpoints == place.parent:
            return _of_checkpoint(run, place)
        return Subject(folder, folder.with_name(f"{place.name}-merged"), name=place.name)
    return _of_run(find_run(reference))


def find_base(subject: Subject, model: str | None, on_progress: Progress | None = None) -> Path:
    """The base model's folder.

    Raises FinetuiError (exit 4) where the one given is not the one locked, (exit 3) where none is found.
    """
    locked = subject.lock.get("model")
    if model is not None:
        folder = find_model(model, on_progress)
        if locked and not matches(folder, locked["identity"], locked["files"], on_progress):
            facts = {"base": str(folder), "locked": locked["name"], "identity": locked["identity"]}
            raise FinetuiError(Problem("merge.other-base", facts), MISMATCH)
        return folder
    if locked:
        found = find_by_identity(locked["identity"], locked["files"], subject.near, on_progress)
        if found is None:
            facts = {"locked": locked["source"] or locked["name"], "identity": locked["identity"]}
            raise FinetuiError(Problem("merge.base-absent", facts), BAD_INPUT)
        return found
    name = read_adapter(subject.adapter).base
    if name is None:
        raise FinetuiError(Problem("merge.no-base", file=str(subject.adapter / CONFIG)), BAD_INPUT)
    return find_model(name, on_progress)


def _of_run(run: RunFolder) -> Subject:
    if run.holds_model():
        raise FinetuiError(Problem("merge.whole", {"run": run.name, "output": str(run.output)}), BAD_INPUT)
    if not (run.output / ADAPTER).is_file():
        raise FinetuiError(Problem("merge.no-output", {"run": run.name, "status": standing(run).status}), BAD_INPUT)
    return _part_of(run, run.output, run.path / "merged", run.name)


def _of_checkpoint(run: RunFolder, folder: Path) -> Subject:
    return _part_of(run, folder, run.path / f"merged-{folder.name}", f"{run.name}/{folder.name}")


def _part_of(run: RunFolder, adapter: Path, out: Path, name: str) -> Subject:
    bundle = bundle_of(run)
    model = run.read().model
    return Subject(adapter, out, bundle, (Path(model),) if model else (), read_lock(bundle), name)


def bundle_of(run: RunFolder) -> Path:
    """The bundle that a run was trained from.

    Raises FinetuiError (exit 3) where it is not there any more.
    """
    bundle = Path(run.read().bundle)
    if not bundle.is_dir():
        raise FinetuiError(Problem("merge.no-bundle", {"run": run.name, "bundle": str(bundle)}), BAD_INPUT)
    return bundle


def _rows(bundle: Path | None) -> list[list[int]]:
    """Ids of some of the bundle's held-out rows, else of those it trains on.

    Raises FinetuiError (exit 4) where they cannot be read.
    """
    for part in ("data/eval.parquet", "data/train.parquet"):
        if bundle is not None and (path := bundle / part).is_file():
            try:
                return cut(row.ids for row in read_rows(path))
            except (OSError, ValueError) as error:
                facts = {"bundle": str(bundle), "path": part, "error": one_line(str(error), 200)}
                raise FinetuiError(Problem("merge.bad-rows", facts), MISMATCH) from error
    return []


def _chat(lock: dict[str, Any]) -> Chat | None:
    template = lock.get("template")
    if not template:
        return None
    own = template.get("source") == "model"
    return Chat(tuple(template.get("stop_ids", ())), None if own else template.get("text"))


def quantization_of(lock: dict[str, Any]) -> Quantization | None:
    """How a lock packs the base in training; an adapter without its bundle does not say."""
    settings = {name: knob["value"] for name, knob in lock.get("training", {}).items()}
    if settings.get("load_in_8bit"):
        return Quantization("int8")
    if settings.get("load_in_4bit"):
        return Quantization(settings["bnb_4bit_quant_type"], settings["bnb_4bit_use_double_quant"])
    return None
