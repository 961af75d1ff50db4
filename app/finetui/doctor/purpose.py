"""What a person wants to do, and what it takes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finetui.recipes.recipe import Recipe

USUAL = "lora"
"""What is looked at where nobody says what for."""
FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Purpose:
    """One thing to do, or several at once."""

    names: tuple[str, ...]
    """As `--for` has them."""
    packages: tuple[str, ...] = ()
    """Packages of the training interpreter that it cannot do without."""
    programs: tuple[str, ...] = ()
    """Programs that have to be on the path."""
    trains: bool = False
    """Whether training processes are started."""
    reaches_hub: bool = False
    """Whether something is fetched."""

    def needs(self, package: str) -> bool:
        """Whether it cannot do without a package."""
        return package in self.packages


def purposes() -> tuple[str, ...]:
    """What `--for` takes."""
    return tuple(_table())


def purpose_of(names: Iterable[str], recipe: Recipe | None = None) -> Purpose:
    """All that is needed for these names and this recipe together; for the usual purpose where there is neither.

    Raises KeyError for a name that the table lacks.
    """
    wanted = list(dict.fromkeys(names))
    packages: list[str] = []
    if recipe is not None:
        quantised = recipe.values.get("load_in_4bit") or recipe.values.get("load_in_8bit")
        wanted.append("full" if recipe.method == "full" else "qlora" if quantised else "lora")
        packages += ["flash-attn"] if recipe.values.get("attn_implementation") == FLASH else []
    wanted = list(dict.fromkeys(wanted or [USUAL]))
    parts = [_table()[name] for name in wanted]
    return Purpose(
        names=tuple(wanted),
        packages=tuple(dict.fromkeys([name for part in parts for name in part.packages] + packages)),
        programs=tuple(dict.fromkeys(name for part in parts for name in part.programs)),
        trains=any(part.trains for part in parts),
        reaches_hub=any(part.reaches_hub for part in parts),
    )


@cache
def _table() -> dict[str, Purpose]:
    table = tomllib.loads(Path(__file__).with_name("purposes.toml").read_text(encoding="utf-8"))
    return {
        name: Purpose(
            names=(name,),
            packages=tuple(entry.get("packages", ())),
            programs=tuple(entry.get("programs", ())),
            trains=entry.get("trains", False),
            reaches_hub=entry.get("reaches_hub", False),
        )
        for name, entry in table.items()
    }
