"""From a folder to the files of it that are read: a converted one, a Hugging Face dataset, or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.files.containers import TEXT
from finetui.data.sources.found import PART_FILES, PARTS, TRAIN, Dataset, FoundFile, Search
from finetui.data.sources.hub import addresses, choose, snapshot_of, splits_of
from finetui.data.sources.repository import Split, below, is_beside

_SKIPPED = frozenset({"data.empty-file", "data.binary"})
_NO_DATA = frozenset({"PNG", "PDF", "GGUF"})
"""Kinds of files that no one would call data; archives and spreadsheets could be it, and are errors."""
_PROSE = (".txt", ".text", ".gz", ".zst")
_NAMED = 5
_REPORT = "report.json"
_WRITTEN = frozenset({_REPORT, "rejected.jsonl", *PART_FILES.values()})
"""What `convert` writes into its folder."""


def open_folder(folder: Path, config: str | None, split: str | None, dataset: Dataset, search: Search) -> None:
    """Find the files of one dataset in a folder; a configuration and a split are those of a Hugging Face dataset."""
    if not config and not split and (folder / PART_FILES[TRAIN]).is_file() and (report := _report(folder)):
        reading = dataset.reading
        if report.get("stage") == "pt" and not (reading.format or reading.stage or reading.mapping):
            # what was taken for text once stays text, also where it quotes chats
            dataset = replace(dataset, reading=replace(reading, stage="pt"))
        for part in PARTS:
            if (folder / PART_FILES[part]).is_file():
                search.add(folder / PART_FILES[part], dataset, part)
        return
    try:
        splits = splits_of(snapshot_of(folder))
        if splits is not None:
            place = dataset.name.removesuffix(":" + "/".join(filter(None, (config, split))))
            chosen = choose(splits, config, split, place)
            if split is None:
                _name_others(chosen, splits, place, search)
            _add_files(chosen.files, dataset, search)
        elif config or split:
            search.refuse(Problem("sources.no-names", {"names": split or config}, str(folder)), exit_code=USAGE)
        else:
            _add_all(snapshot_of(folder), dataset, search)
    except FinetuiError as error:
        search.refuse(*error.problems, exit_code=error.exit_code)


def _report(folder: Path) -> dict[str, Any] | None:
    """What `convert` has reported in a folder that it was to write into; None where it has not."""
    try:
        report = json.loads((folder / _REPORT).read_bytes())
        return report if isinstance(report, dict) and "sha256" in report["out"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _name_others(chosen: Split, splits: list[Split], place: str, search: Search) -> None:
    """Say which splits are there beside the one that was taken without being named."""
    others = [one_line(name) for name in addresses(splits)]
    read = others.pop(splits.index(chosen))
    if others:
        facts = {"dataset": one_line(place), "split": read, "other": others[0]}
        search.note("sources.cue-split", others=", ".join(others), **facts)


def _add_all(folder: Path, dataset: Dataset, search: Search) -> None:
    """Every data file below any other folder; what was converted before is read only where there is nothing else."""
    paths = [path for path in below(folder) if not _is_hidden(path, folder)]
    converted = [path.parent for path in paths if path.name == _REPORT and _report(path.parent)]
    others = [path for path in paths if path.parent not in converted or path.name not in _WRITTEN]
    if converted and all(map(is_beside, others)):
        for place in converted:
            open_folder(place, None, None, dataset, search)
        return
    if converted:
        search.note("data.cue-converted", names=", ".join(one_line(str(place)) for place in converted[:_NAMED]))
    _add_files(others, dataset, search)


def _add_files(paths: Sequence[Path], dataset: Dataset, search: Search) -> None:
    """The data among some files of a folder; what is none is named."""
    here, left_out = Search(), list[Path]()
    for path in paths:
        one = Search()
        beside = is_beside(path) or not path.is_file()
        if not beside:
            one.add(path, dataset)
        if beside or (one.problems and all(map(_is_no_data, one.problems))):
            left_out.append(path)
        else:
            here.files += one.files
            here.refuse(*one.problems)
    loose = [found for found in here.files if _is_loose_text(found)]
    if len(loose) < len(here.files):
        left_out += [found.file.path for found in loose]
        here.files = [found for found in here.files if found not in loose]
    if left_out:
        names = ", ".join(one_line(str(path)) for path in left_out[:_NAMED])
        search.note("data.cue-left-out", count=len(left_out), names=names)
    if not here.files and not here.problems:
        here.refuse(Problem("data.no-data-in-folder", {"count": len(paths)}, dataset.name))
    search.files += here.files
    search.refuse(*here.problems)


def _is_no_data(problem: Problem) -> bool:
    return problem.code in _SKIPPED or problem.facts.get("kind") in _NO_DATA


def _is_loose_text(found: FoundFile) -> bool:
    """Whether a file is text of no declared kind (a makefile, a citation): data only where there is no other."""
    return found.file.container == TEXT and found.file.path.suffix.lower() not in _PROSE


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
