"""What a wizard offers: data near by, models on this machine, recipes and what they take, a name for the bundle."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetui.core import home
from finetui.core.errors import FinetuiError, Problem
from finetui.core.fetched import is_hub_id
from finetui.core.jobs import Progress
from finetui.data.reader import open_input
from finetui.data.sources.repository import is_beside
from finetui.draft import Draft
from finetui.models.find import find_model
from finetui.models.outline import Outline, outline
from finetui.models.places import DEMO, everywhere, origin
from finetui.recipes.recipe import Recipe, catalogue, load_recipe
from finetui.recipes.resolve import Plan
from finetui.recipes.stages import serves
from finetui.wizard import plan

_DATA = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst", ".zip", ".xz", ".bz2")
"""Ends of names that data usually has, the likeliest first."""
_MOST = 200
_LOOKED_INTO = 1 << 28
"""Bytes of a file whose format is shown unasked."""


@dataclass(frozen=True)
class Place:
    """A file or folder that may be data."""

    word: str
    """What names it, as it would be typed."""
    path: Path
    is_folder: bool
    bytes: int = 0


def near(typed: str, here: Path | None = None) -> list[Place]:
    """What the typed begin of a path may go on to be, folders last; for nothing typed, what is here."""
    expanded = Path(typed).expanduser() if typed else Path()
    folder, begin = (expanded, "") if typed.endswith(("/", os.sep)) or not typed else (expanded.parent, expanded.name)
    lead = typed[: len(typed) - len(begin)] if typed else ""
    try:
        entries = list(os.scandir((here or Path()) / folder))
    except OSError:
        return []
    wanted = [entry for entry in entries if entry.name.startswith(begin) and (begin or not entry.name.startswith("."))]
    if begin and not wanted:
        wanted = [entry for entry in entries if begin.lower() in entry.name.lower() and not entry.name.startswith(".")]
    places = list(_places(wanted, lead, folder))
    return sorted(places, key=lambda place: (_rank(place), place.word))[:_MOST]


def _places(entries: Sequence[os.DirEntry[str]], lead: str, folder: Path) -> Iterator[Place]:
    for entry in entries:
        with contextlib.suppress(OSError):
            if entry.is_dir():
                yield Place(f"{lead}{entry.name}/", folder / entry.name, True)
            elif not is_beside(Path(entry.name)):
                yield Place(lead + entry.name, folder / entry.name, False, entry.stat().st_size)


def _rank(place: Place) -> int:
    if place.is_folder:
        return len(_DATA) + 1
    suffix = place.path.suffix.lower()
    return _DATA.index(suffix) if suffix in _DATA else len(_DATA)


def is_there(word: str) -> bool:
    """Whether a typed word is a file or a folder, with or without a weight behind `@`."""
    return any(Path(part).expanduser().exists() for part in (word, word.rpartition("@")[0]) if part)


def format_of(place: Place) -> str | None:
    """The layout of a file, by a sample of its rows; None where there is none, or where looking takes long."""
    if place.is_folder or place.bytes > _LOOKED_INTO:
        return None
    try:
        return open_input([str(place.path)]).format
    except (FinetuiError, OSError):
        return None


@dataclass(frozen=True)
class ModelOffer:
    """A model on this machine."""

    reference: str
    """What `--model` takes."""
    outline: Outline | None = None
    problems: tuple[Problem, ...] = ()
    """Why it has no outline."""


def models() -> list[ModelOffer]:
    """The models on this machine, the newest first; `demo` last, which is made where it is missing."""
    demo = home.home() / "models" / DEMO
    folders = [folder for folder in everywhere() if folder.absolute() != demo.absolute()]
    newest = sorted(folders, key=lambda folder: -(folder / "config.json").stat().st_mtime)
    offers = [_model(_reference(folder), folder) for folder in newest]
    return [*offers, _model(DEMO, demo) if demo.is_dir() else ModelOffer(DEMO)]


def model(reference: str) -> ModelOffer:
    """The model of this name.

    Raises FinetuiError (exit 3) where there is none.
    """
    return _model(reference, find_model(reference))


def can_be_fetched(word: str) -> bool:
    """Whether a word has the form of a hub id."""
    return "/" in word and is_hub_id(word.partition("@")[0])


def fetched(word: str, on_progress: Progress | None = None) -> ModelOffer:
    """The model of a hub id, brought to this machine.

    Raises FinetuiError as `fetch` does.
    """
    from finetui.models.fetch.flow import fetch
    from finetui.models.fetch.outcome import Request

    name, _, revision = word.partition("@")
    return _model(word, fetch(Request(name, revision=revision or None), on_progress).path)


def _model(reference: str, folder: Path) -> ModelOffer:
    try:
        return ModelOffer(reference, outline(folder))
    except FinetuiError as error:
        return ModelOffer(reference, None, error.problems)


def _reference(folder: Path) -> str:
    """The shortest word that finds this very folder."""
    for word in filter(None, (origin(folder)[1], folder.name)):
        with contextlib.suppress(FinetuiError):
            if find_model(word).resolve() == folder.resolve():
                return word
    return str(folder)


def licence(folder: Path) -> str | None:
    """The licence that the model card names; None where it names none."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as stream:
            head = stream.read(8192)
    except OSError:
        return None
    front = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    said = re.search(r"^license:[ \t]*([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return said[1] if said else None


@dataclass(frozen=True)
class RecipeOffer:
    """A recipe under these data, this model and this machine."""

    recipe: Recipe
    plan: Plan | None = None
    problems: tuple[Problem, ...] = ()
    """Why it cannot be planned."""

    @property
    def fits(self) -> bool:
        """Whether it could be locked."""
        return self.plan is not None and self.plan.fits and not self.plan.untrained


def recipes(stage: str | None) -> list[Recipe]:
    """The shipped recipes that train what data of this stage teaches; all of them for None."""
    found = [load_recipe(name) for name in catalogue()]
    return [recipe for recipe in found if stage is None or serves(stage, recipe.stage)]


def recipe(draft: Draft, recipe: Recipe, on_progress: Progress | None = None) -> RecipeOffer:
    """What a recipe would take here, the draft's own settings left out unless it is the draft's."""
    own = draft if draft.recipe == recipe.name else replace(draft.following(recipe.name), assignments=_of_rows(draft))
    try:
        return RecipeOffer(recipe, plan(own, on_progress))
    except FinetuiError as error:
        return RecipeOffer(recipe, None, error.problems)


def _of_rows(draft: Draft) -> tuple[str, ...]:
    """What was set of the rows that are taken, which another recipe does not change."""
    from finetui.core.knobs import knobs

    return tuple(f"{name}={value}" for name, value in draft.set_values().items() if knobs()[name].locked == "data")


def best_first(offers: Sequence[RecipeOffer], gpus: int) -> list[RecipeOffer]:
    """The recipes in the order in which they are recommended on a machine of so many GPUs."""
    return sorted(offers, key=lambda offer: _merits(offer, gpus))


def _merits(offer: RecipeOffer, gpus: int) -> tuple[object, ...]:
    name = offer.recipe.name
    tuned = re.search(r"x(\d+)$", name)
    methods = ("lora", "qlora", "dora", "full")
    method = next((rank for rank, word in enumerate(methods) if name.startswith((word, f"pretrain-{word}"))), 9)
    for_cpu = name.startswith("cpu-")
    return (
        not offer.fits,
        for_cpu != (gpus == 0),
        name.startswith("journey"),
        (int(tuned[1]) if tuned else 1) > max(1, gpus),
        bool(tuned) != (gpus > 1),
        method,
        name,
    )


def bundle_folder(draft: Draft) -> Path:
    """A folder under `bundles/` that is not there yet, called by data and recipe."""
    first = Path(draft.data[0].rpartition("@")[0] or draft.data[0]) if draft.data else Path("data")
    words = re.sub(r"[^\w.-]+", "-", f"{first.name.partition('.')[0] or 'data'}-{Path(draft.recipe).stem}").strip("-.")
    folder, count = home.home() / "bundles", 1
    name = words
    while (folder / f"{name}.bundle").exists():
        count += 1
        name = f"{words}-{count}"
    return folder / f"{name}.bundle"
