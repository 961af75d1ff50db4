"""The choices so far, as a person has made them, and as words of a command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetui.core.errors import ShellWords
from finetui.core.knobs import knobs
from finetui.data.mapping.parts import parse_mapping
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
            assigned = _had_by(changed.recipe, assigned)
        return replace(changed, assignments=tuple(f"{name}={value}" for name, value in assigned.items()))

    def launching(self) -> tuple[ShellWords, ShellWords]:
        """The commands that lock it into `out` and run that."""
        accepted = {"--accept-rejected": self.accept_rejected, "--accept-memory": self.accept_memory}
        flags = [flag for flag, said in accepted.items() if said]
        lock = ["finetui", "lock", *self._words(), "--out", str(self.out), *flags]
        run = ["finetui", "run", str(self.out), "--detach"]
        run += ["--model", self.model] if Path(self.model).expanduser().is_dir() else []  # else found by its digests
        run += ["--python", self.python] if self.python else []
        return ShellWords(shlex.join(lock)), ShellWords(shlex.join(run))

    def setting(self, name: str, value: str | None) -> Draft:
        """The draft with a knob as `--set` would write it; None leaves it to the recipe again."""
        assigned = dict(_pairs(self.assignments))
        if value is None:
            assigned.pop(name, None)
        else:
            assigned[name] = value
        return replace(self, assignments=tuple(f"{knob}={said}" for knob, said in assigned.items()))

    def set_values(self) -> dict[str, str]:
        """What was set over the recipe, as it was written."""
        return dict(_pairs(self.assignments))

    def following(self, recipe: str) -> Draft:
        """The draft with another recipe; settings that it does not have are left out."""
        left = _had_by(recipe, self.set_values())
        return replace(self, recipe=recipe, assignments=tuple(f"{name}={value}" for name, value in left.items()))

    def reading_as(self, flags: Sequence[str]) -> Draft:
        """The draft with the flags of an answer or of another reading of the data, in place of those said before.

        Raises FinetuiError (exit 2) for a mapping that is none.
        """
        said = Reading(text_by=self.reading.text_by, keep_meta=self.reading.keep_meta, fill=self.reading.fill)
        for flag, word in zip(flags[::2], flags[1::2], strict=True):
            match flag:
                case "--map":
                    said = replace(said, mapping=parse_mapping(word))
                case "--text-by":
                    said = replace(said, text_by=word)
                case "--format":
                    said = replace(said, format=word)
                case "--stage":
                    said = replace(said, stage=word)
        return replace(self, reading=said)

    def saying(self, column: str, part: str | None) -> Draft:
        """The draft with what a column of no known layout is; None takes back what was said of it."""
        mapping = {name: of for name, of in self.reading.mapping.items() if of != column and name != part}
        if part is not None:
            mapping[part] = column
        return replace(self, reading=replace(self.reading, mapping=mapping))

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


def _had_by(recipe: str, assigned: Mapping[str, str]) -> dict[str, str]:
    """The settings that a training by this recipe has."""
    found = load_recipe(recipe)
    return {name: value for name, value in assigned.items() if knobs()[name].applies(found.stage, found.method)}


def _repeated(flag: str, values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield from (flag, value)


def _pairs(assignments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        yield name.strip(), value.strip()
