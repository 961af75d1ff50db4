"""From what the user named to the files that will be read; every obstacle is reported at once.

A name is a path, a folder with the names of datasets or a split (`DIR:NAME,…`), or the id of a hub dataset in a local
cache; each may end in a weight (`PATH@2`). A path that is there wins over any other reading of its characters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.problems import Saying
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.sources.folders import open_folder
from finetui.data.sources.found import TRAIN, VALIDATION, Dataset, FoundFile, Search
from finetui.data.sources.hub import find_cached, is_hub_id, read_choice, snapshot_of, splits_of
from finetui.data.sources.registry import open_registered, read_registry

Spec = str | Path
"""What a user may name as data."""
_MOST_WEIGHT = 1000
_IN_ENTRY = {"sources.unknown-column": "sources.entry-column", "sources.unknown-inside": "sources.entry-inside"}
"""Problems of a mapping, as they are told where an entry of a registry was the mapping."""


def find_files(
    specs: Sequence[Spec], reading: Reading = AS_DETECTED, evaluation: Sequence[Spec] = ()
) -> tuple[list[FoundFile], list[Saying]]:
    """The data files that `specs` name, in order, each with its own reading; and what is to be said of the search.

    Those of `evaluation` come last, as the validation part; other parts that they have are left out.

    Raises FinetuiError with everything that is absent, empty, unreadable, no data or not told apart.
    """
    search, held = Search(), Search()
    for spec, into in [*((spec, search) for spec in specs), *((spec, held) for spec in evaluation)]:
        try:
            _find(str(spec), reading, into)
        except FinetuiError as error:
            into.refuse(*error.problems, exit_code=error.exit_code)
        except OSError as error:
            into.refuse(Problem("data.unreadable", {"error": error.strerror or str(error)}, str(spec)))
    search.refuse(*held.problems, exit_code=held.exit_code)
    if search.problems:
        raise FinetuiError(search.problems, search.exit_code)
    files = [replace(found, part=VALIDATION) for found in held.files if found.part == TRAIN]
    return [*search.files, *files], [*search.notes, *held.notes]


def blamed(error: FinetuiError, found: FoundFile) -> FinetuiError:
    """The error of reading one file, each problem with the place where it is to be mended."""
    registry = found.of.registry
    if not registry:
        return FinetuiError([replace(p, file=p.file or found.file.name) for p in error.problems], error.exit_code)
    facts = {"name": one_line(found.dataset.rpartition(":")[2]), "data": one_line(found.file.name)}
    return FinetuiError(
        Problem(_IN_ENTRY[p.code], {**p.facts, **facts}, registry)
        if p.code in _IN_ENTRY
        else replace(p, file=p.file or found.file.name)
        for p in error.problems
    )


def _find(words: str, reading: Reading, search: Search) -> None:
    place, weight = _locate(words), 1.0
    if place is None:
        base, sign, tail = words.rpartition("@")
        place = _locate(base) if sign else None
        if place is None:
            search.refuse(_absent(words))
            return
        words, weight = base, _weight(tail, words)
    path, names = place
    dataset = Dataset(words, reading, weight)
    if path.is_file():
        search.add(path, dataset)
    elif path.is_dir():
        _open(path, names, dataset, search)
    else:
        search.refuse(Problem("data.not-a-file", {}, str(path)))


def _locate(words: str) -> tuple[Path, str] | None:
    """A path that is there, and the names behind the colon; None where there is none."""
    if not words:
        return None
    if _is_there(path := Path(words)):
        return path, ""
    for at in reversed([at for at, sign in enumerate(words) if sign == ":"]):
        if at and _is_there(folder := Path(words[:at])) and folder.is_dir():
            return folder, words[at + 1 :]
    reference, _, names = words.partition(":")
    cached = find_cached(reference)
    return (cached, names) if cached else None


def _open(folder: Path, names: str, dataset: Dataset, search: Search) -> None:
    """A folder, by the names of its datasets or its splits where it has such."""
    entries = read_registry(folder)
    wanted = [_weighed(name.strip(), entries or {}) for name in names.split(",") if name.strip()]
    if entries is not None:
        place = names and dataset.name.removesuffix(f":{names}")
        open_registered(folder, entries, wanted, replace(dataset, name=place or dataset.name), search)
    elif not wanted:
        open_folder(folder, None, None, dataset, search)
    else:
        splits = splits_of(snapshot_of(folder)) or []
        place = dataset.name.removesuffix(f":{names}")
        for name, weight in wanted:
            one = replace(dataset, name=f"{place}:{name}", weight=weight)
            open_folder(folder, *read_choice(name, splits), one, search)


def _weighed(name: str, known: Sequence[str] | dict[str, object]) -> tuple[str, float]:
    """One name behind the colon, and its weight."""
    base, sign, tail = name.rpartition("@")
    return (base, _weight(tail, name)) if sign and name not in known else (name, 1.0)


def _weight(tail: str, words: str) -> float:
    """Raises FinetuiError (exit 2) where it is no number above 0, or one that only a slip of the hand can mean."""
    try:
        weight = float(tail)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= _MOST_WEIGHT:
        facts = {"weight": tail, "data": words, "most": _MOST_WEIGHT}
        raise FinetuiError(Problem("sources.weight", facts), USAGE)
    return weight


def _is_there(path: Path) -> bool:
    """Raises OSError where the folder that it lies in may not be looked into."""
    try:
        return path.exists()
    except PermissionError:
        raise
    except OSError:  # too long to be a path
        return False


def _absent(words: str) -> Problem:
    reference = words.partition(":")[0].partition("@")[0]
    if is_hub_id(reference):
        return Problem("sources.not-fetched", {"hub_id": reference}, words)
    parent = Path(words).parent
    while not _is_there(parent) and parent != parent.parent:
        parent = parent.parent
    return Problem("data.no-such-path", {"parent": str(parent)}, words)
