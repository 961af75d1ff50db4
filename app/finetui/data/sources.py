"""From what the user named to the files that will be read: folders opened, every obstacle reported at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from finetui.core.errors import FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.found import PART_FILES, PARTS, Dataset, FoundFile, Search
from finetui.data.problems import Saying
from finetui.data.reading import AS_DETECTED, Reading

_SKIPPED_IN_FOLDERS = frozenset({"data.empty-file", "data.not-json", "data.binary"})
"""What a folder may hold beside its data (a README, a licence, a marker) without that being an error."""
_NAMED = 5


Spec = str | Path
"""What a user may name as data."""


def find_files(specs: Sequence[Spec], reading: Reading = AS_DETECTED) -> tuple[list[FoundFile], list[Saying]]:
    """The data files that `specs` name, in order, each with its own reading; and what is to be said of the search.

    Raises FinetuiError with every path that is absent, empty, unreadable or no data.
    """
    search = Search()
    for spec in specs:
        path = Path(spec)
        dataset = Dataset(str(path), reading)
        if path.is_dir():
            _from_folder(path, dataset, search)
        elif not path.exists():
            search.refuse(_absent(path))
        elif not path.is_file():
            search.refuse(Problem("data.not-a-file", {}, str(path)))
        else:
            search.add(path, dataset)
    if search.problems:
        raise FinetuiError(search.problems, search.exit_code)
    return search.files, search.notes


def _from_folder(folder: Path, dataset: Dataset, search: Search) -> None:
    """Every data file below a folder; of a folder that `convert` has written, its parts alone."""
    if _is_converted(folder):
        for part in PARTS:
            if (folder / PART_FILES[part]).is_file():
                search.add(folder / PART_FILES[part], dataset, part)
        return
    try:
        inside = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    except OSError as error:
        search.refuse(Problem("data.unreadable", {"error": error.strerror or str(error)}, str(folder)))
        return
    here, left_out = Search(), list[str]()
    for path in inside:
        one = Search()
        one.add(path, dataset)
        if one.problems and all(problem.code in _SKIPPED_IN_FOLDERS for problem in one.problems):
            left_out.append(one_line(str(path)))
        else:
            here.files += one.files
            here.refuse(*one.problems)
    if left_out:
        search.note("data.cue-left-out", count=len(left_out), names=", ".join(left_out[:_NAMED]))
    if not here.files and not here.problems:
        here.refuse(Problem("data.no-data-in-folder", {"count": len(inside)}, str(folder)))
    search.files += here.files
    search.refuse(*here.problems)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)


def _is_converted(folder: Path) -> bool:
    try:
        report = json.loads((folder / "report.json").read_bytes())
        return isinstance(report, dict) and "sha256" in report["out"] and (folder / "data.jsonl").is_file()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _absent(path: Path) -> Problem:
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    return Problem("data.no-such-path", {"parent": str(parent)}, str(path))
