"""From what a person calls a model to the folder it is in, and from what a bundle knows of it."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem, ShellWords
from finetui.core.fetched import is_hub_id
from finetui.core.jobs import Progress
from finetui.models import demo
from finetui.models.digests import digests
from finetui.models.identify import CONFIG, identity_of, model_files
from finetui.models.places import DEMO, everywhere, named, origin
from finetui.models.weights import read_weights

_NEARLY_SURE, _MAYBE = 0.9, 0.6
"""How like a name has to be: an id may as well be that of a model that was never here."""


def find_model(reference: str, on_progress: Progress | None = None) -> Path:
    """The folder of a model: `demo`, a path, a name under `models/` or `$FINETUI_MODELS`, a hub id in a known cache.

    Raises FinetuiError (exit 3) where there is none, with the nearest name; what `fetch_demo` raises.
    """
    if reference == DEMO:
        return demo.fetch_demo(on_progress)
    path = Path(reference).expanduser()
    if reference and path.is_dir():
        return path
    if path.is_file():
        raise FinetuiError(Problem("models.not-a-folder", {"folder": str(path.parent)}, str(path)), BAD_INPUT)
    for folder in named(reference):
        if (folder / CONFIG).is_file():
            return folder
    facts = {"reference": reference, "models": str(home.home() / "models"), "way": _way_to(reference)}
    raise FinetuiError(Problem("models.not-found", facts), BAD_INPUT)


def _way_to(reference: str) -> ShellWords:
    """What to do for a model that is not here: name one that is nearly called so, or fetch it by its id."""
    known = sorted({name for folder in everywhere() for name in (origin(folder)[1], folder.name) if name} | {DEMO})
    name, _, revision = reference.partition("@")
    is_id = "/" in name and is_hub_id(name) and (not revision or is_hub_id(revision))
    near = difflib.get_close_matches(reference, known, 1, _NEARLY_SURE if is_id else _MAYBE)
    if is_id and not near:
        return ShellWords(f"finetui fetch {reference}")
    return ShellWords(f"--model {shlex.quote(next(iter(near), DEMO))}")


def find_by_identity(
    identity: str, files: Mapping[str, str], near: Iterable[Path] = (), on_progress: Progress | None = None
) -> Path | None:
    """The folder of the model with this identity, or None: `near` first, then every known place, then the demo model.

    `files` are the digests that a bundle's lock has: a folder whose small files differ is passed over without reading
    its weights.
    """
    for folder in (*near, *everywhere()):
        if matches(folder, identity, files, on_progress):
            return folder
    if identity == demo.identity():
        return demo.fetch_demo(on_progress)
    return None


def matches(folder: Path, identity: str, files: Mapping[str, str], on_progress: Progress | None = None) -> bool:
    """Whether a folder holds the model with this identity; small files are compared first."""
    problems: list[Problem] = []
    weights = read_weights(folder, problems)
    names = model_files(folder, weights)
    if problems or set(names) != set(files):
        return False
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (folder / name).stat().st_size):
        found[name] = digests([folder / name], on_progress)[folder / name]
        if found[name] != files[name] and not name.endswith("config.json"):
            return False
    return identity_of(folder, found) == identity
