"""From what the user named to the files that will be read: folders opened, every obstacle reported at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from finetui.core.errors import FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.containers import DataFile, identify

_SKIPPED_IN_FOLDERS = frozenset({"data.empty-file", "data.not-json", "data.binary"})
"""What a folder may hold beside its data (a README, a licence, a marker) without that being an error."""


def find_files(paths: Sequence[Path]) -> tuple[list[DataFile], list[str]]:
    """The data files under `paths` in order, and the names of files that were left out of folders.

    Raises FinetuiError with every path that is absent, empty, unreadable or no data.
    """
    files: list[DataFile] = []
    left_out: list[str] = []
    problems: list[Problem] = []
    for path in paths:
        if path.is_dir():
            _from_folder(path, files, left_out, problems)
        elif not path.exists():
            problems.append(_absent(path))
        elif not path.is_file():
            problems.append(Problem("data.not-a-file", {}, str(path)))
        else:
            _add(path, files, problems)
    if problems:
        raise FinetuiError(problems)
    return files, left_out


def _add(path: Path, files: list[DataFile], problems: list[Problem]) -> None:
    try:
        files.append(identify(path, str(path)))
    except FinetuiError as error:
        problems.extend(error.problems)


def _from_folder(folder: Path, files: list[DataFile], left_out: list[str], problems: list[Problem]) -> None:
    """Every data file below a folder; of a folder that `convert` has written, its data alone."""
    if _is_converted(folder):
        _add(folder / "data.jsonl", files, problems)
        return
    try:
        inside = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    except OSError as error:
        problems.append(Problem("data.unreadable", {"error": error.strerror or str(error)}, str(folder)))
        return
    before, problems_before = len(files), len(problems)
    for path in inside:
        found: list[Problem] = []
        _add(path, files, found)
        if found and all(problem.code in _SKIPPED_IN_FOLDERS for problem in found):
            left_out.append(one_line(str(path)))
        else:
            problems.extend(found)
    if len(files) == before and len(problems) == problems_before:
        problems.append(Problem("data.no-data-in-folder", {"count": len(inside)}, str(folder)))


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
