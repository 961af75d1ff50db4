"""The choices so far, as a person has made them, and as words of a command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetui.core.errors import ShellWords
from finetui.core.knobs import knobs
from finetui.data.reading import AS_DETECTED, Reading
from finetui.recipes.recipe import load_recipe
from finetui.recipes.resolve.ways import Way


@dataclass(frozen=True)
class Draft:
    """What a person has chosen."""

    data: tuple[str, ...]
    """Files or folders of chat data, raw or converted."""
    model: str
    """A folder, the name of one under models/, or `demo`."""
    recipe: str
    """The name of a recipe, or a file."""
    out: Path = Path()
    """The bundle's folder, which must not exist; a plan needs none."""
    assignments: tuple[str, ...] = ()
    """`knob=value`, over the recipe."""
    template: str | None = None
    """Chat template for a base model without one: a built-in name or a file."""
    python: str | None = None
    """The interpreter that will train."""
    accept_rejected: bool = False
    """Go on although more than 1 % of the rows are rejected."""
    reading: Reading = AS_DETECTED
    """How the data is to be read, where that is not left to the detection."""
    evaluation: tuple[str, ...] = ()
    """Data that is evaluated and never trained."""
    gpu: str | None = None
    """`KIND[:N]`, where the machine that will train is not this one."""
    price: float | None = None
    """Of one GPU for an hour."""
    accept_memory: bool = False
    """Lock also what is predicted not to fit."""

    def command(self) -> ShellWords:
        """The words of `finetui plan` that say the same, quoted for a shell."""
        price = [] if self.price is None else ["--price", f"{self.price:g}"]
        return ShellWords(shlex.join(["finetui", "plan", *self._words(), *price]))

    def next(self) -> ShellWords:
        """The command that locks it."""
        return ShellWords(shlex.join(["finetui", "lock", *self._words(), "--out", "NAME.bundle"]))

    def taking(self, way: Way) -> Draft:
        """The draft with what a way out changes, in place of what was said of it; a price is of its own machine."""
        changed, assigned = self, dict(_pairs(self.assignments))
        for flag, word in zip(way.words[::2], way.words[1::2], strict=True):
            match flag:
                case "--recipe":
                    changed = replace(changed, recipe=word)
                case "--gpu":
                    changed = replace(changed, gpu=word, price=None)
                case _:
                    assigned |= _pairs([word])
        if changed.recipe != self.recipe:
            recipe = load_recipe(changed.recipe)
            assigned = {n: value for n, value in assigned.items() if knobs()[n].applies(recipe.stage, recipe.method)}
        return replace(changed, assignments=tuple(f"{name}={value}" for name, value in assigned.items()))

    def _words(self) -> Iterator[str]:
        yield from ("--model", self.model)
        yield from _repeated("--data", self.data)
        yield from ("--recipe", self.recipe)
        yield from _repeated("--set", self.assignments)
        yield from _repeated("--eval-data", self.evaluation)
        reading = self.reading
        pairs = ",".join(f"{part}={column}" for part, column in reading.mapping.items())
        by = None if reading.text_by == AS_DETECTED.text_by else reading.text_by
        for flag, value in (
            ("--format", reading.format),
            ("--stage", reading.stage),
            ("--map", pairs),
            ("--text-by", by),
            ("--template", self.template),
            ("--python", self.python),
            ("--gpu", self.gpu),
        ):
            if value:
                yield from (flag, value)
        yield from _repeated("--fill", [f"{name}={text}" for name, text in reading.fill.items()])
        if not reading.keep_meta:
            yield "--no-meta"


def _repeated(flag: str, values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield from (flag, value)


def _pairs(assignments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        yield name.strip(), value.strip()
