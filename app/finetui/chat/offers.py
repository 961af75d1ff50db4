"""Whom one may talk to: from what a person names, or has near, to somebody who can answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from finetui.chat.endpoint import at_hand, endpoint_of, is_address, those_at
from finetui.chat.who import BASE, CHECKPOINT, MODEL, TUNED, Who
from finetui.core.errors import FinetuiError
from finetui.models.adapter import CONFIG
from finetui.models.places import everywhere, origin
from finetui.runs.folder import RunFolder, find_run, list_runs

_RUNS_OFFERED = 20


def who_is(reference: str) -> Who:
    """The one that a reference means by itself: of a run what it made, or its newest checkpoint while it trains.

    Raises FinetuiError where there is no such run.
    """
    if is_address(reference):
        return endpoint_of(reference)
    folder = Path(reference).expanduser()
    if (folder / CONFIG).is_file():
        return next((who for who in _around(folder) if Path(who.reference) == folder.resolve()), _adapter(folder))
    if folder.is_dir() and not RunFolder(folder.absolute()).exists():
        return Who(MODEL, reference, origin(folder)[0])
    try:
        run = find_run(reference)
    except FinetuiError:
        if "/" in reference or (home_like := reference) == "last" or home_like.isdigit():
            raise
        return Who(MODEL, reference, reference)
    return next(iter(those_of(run)), Who(TUNED, str(run.path), run.name))


def those_of(run: RunFolder) -> list[Who]:
    """Who can answer of a run: what it made, its checkpoints from the newest on, and its base."""
    found = []
    if run.holds_model():
        return [Who(TUNED, str(run.path), run.name)]
    if (run.output / CONFIG).is_file():
        found.append(Who(TUNED, str(run.path), run.name))
    found += sorted(_checkpoints(run), key=lambda who: -who.step)
    return [*found, Who(BASE, found[0].reference, run.name)] if found else []


def offered(near: str | None = None) -> list[Who]:
    """Whom one may choose from: those of the run `near` first, then other runs, models, and the endpoint at hand."""
    first = _of_reference(near) if near else []
    runs = [who for run in reversed(list_runs()[-_RUNS_OFFERED:]) for who in those_of(run)[:1]]
    models = [Who(MODEL, str(folder), origin(folder)[0]) for folder in everywhere()]
    return list(dict.fromkeys([*first, *runs, *models, *at_hand()]))


def _of_reference(reference: str) -> list[Who]:
    if is_address(reference):
        with suppress(FinetuiError):
            return those_at(reference.partition(" ")[0])
        return []
    folder = Path(reference).expanduser()
    if (folder / CONFIG).is_file():
        return _around(folder) or [_adapter(folder), Who(BASE, str(folder.resolve()), folder.resolve().name)]
    with suppress(FinetuiError):
        return those_of(find_run(reference))
    return []


def _around(folder: Path) -> list[Who]:
    """Those of the run that an adapter's folder lies in."""
    place = folder.resolve()
    for path in (place.parent, place.parent.parent):
        if (run := RunFolder(path)).exists():
            return those_of(run)
    return []


def _adapter(folder: Path) -> Who:
    return Who(TUNED, str(folder.resolve()), folder.resolve().name)


def _checkpoints(run: RunFolder) -> Iterator[Who]:
    for marker in run.checkpoints.glob("checkpoint-*/complete.json"):
        folder, number = marker.parent, marker.parent.name.rpartition("-")[2]
        if number.isdigit() and (folder / CONFIG).is_file():
            yield Who(CHECKPOINT, str(folder), run.name, int(number))
