"""The model that somebody wants to train or talk to: whether it is here, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetui.core import home
from finetui.core.errors import FinetuiError, Problem
from finetui.models.identify import CONFIG
from finetui.models.outline import Outline, outline
from finetui.models.places import DEMO, named


@dataclass(frozen=True)
class ModelHere:
    """What is known of one model without reading its weights."""

    reference: str
    """As it was asked for."""
    outline: Outline | None
    """None where it is not here, or cannot be used."""
    problems: tuple[Problem, ...] = ()
    """Why it cannot be used."""


def look_for(reference: str) -> ModelHere:
    """Look where models lie; nothing is fetched or made."""
    folder = _folder(reference)
    if folder is None:
        return ModelHere(reference, None)
    try:
        return ModelHere(reference, outline(folder))
    except FinetuiError as error:
        return ModelHere(reference, None, error.problems)


def _folder(reference: str) -> Path | None:
    path = Path(reference).expanduser()
    places = [home.home() / "models" / DEMO] if reference == DEMO else [path, *named(reference)]
    return next((place for place in places if (place / CONFIG).is_file()), None)
