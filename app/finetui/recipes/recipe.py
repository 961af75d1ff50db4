"""A recipe: what a person asks for, as commented TOML, with all that it takes over from others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetui.core.errors import FinetuiError, Problem
from finetui.core.knobs import Value, knobs, nearest
from finetui.core.messages import language
from finetui.core.text import one_line
from finetui.recipes.check import check_header, check_knobs, misplaced
from finetui.recipes.source import read_source

_SHIPPED = (Path(__file__).with_name("shipped"), Path(__file__).parents[3] / "recipes")
_CJK = re.compile("[一-鿿]")


@dataclass(frozen=True)
class Recipe:
    """What was asked, before it meets data, model and hardware."""

    name: str
    """Its name, for bundles and the catalogue."""
    stage: str
    """sft, pt, dpo, kto or reward."""
    method: str
    """lora or full."""
    values: Mapping[str, Value]
    """The knobs that it sets, its parents' included."""
    text: str
    """The TOML as it was written, comments and all."""
    extends: str = ""
    """The recipe that it takes over from, as it names it; empty for none."""
    inherited: frozenset[str] = frozenset()
    """Those of `values` that only its parents say."""

    def about(self, lang: str | None = None) -> str:
        """The first comment line of the file, which says what the recipe is for; in Chinese the first that is."""
        comments = []
        for line in self.text.lstrip().splitlines():
            if not (comment := line.strip("# \t")) or not line.startswith("#"):
                break
            comments.append(comment)
        chinese = [comment for comment in comments if _CJK.search(comment)]
        chosen = chinese if (lang or language()) == "zh" and chinese else comments
        return chosen[0] if chosen else ""


def catalogue() -> dict[str, Path]:
    """The recipes that ship with finetui, by name."""
    folder = next((folder for folder in _SHIPPED if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def load_recipe(reference: str) -> Recipe:
    """The recipe of that name, or in that file.

    Raises FinetuiError (exit 3) with every error of the file and of those that it extends, each with its line.
    """
    return _load(reference, (), None, None)


def inapplicable(recipe: Recipe, overrides: Mapping[str, Value]) -> list[Problem]:
    """What is wrong with `--set` of knobs that a training of this stage and method does not have."""
    return [
        problem
        for name in overrides
        for problem in misplaced(knobs()[name], recipe.stage, recipe.method, file="--set", line=None)
    ]


def _load(reference: str, children: tuple[Path, ...], file: str | None, line: int | None) -> Recipe:
    """`file` and `line` are where another recipe names this one."""
    shipped = catalogue()
    path = shipped.get(reference) or Path(reference)
    if not path.is_file():
        near = nearest(reference, shipped, 0.6)
        facts = {"recipe": one_line(reference), "near": near, "names": ", ".join(shipped)}
        raise FinetuiError(Problem("recipes.not-found-near" if near else "recipes.not-found", facts, file, line))
    if path.resolve() in children:
        raise FinetuiError(Problem("recipes.circle", {"recipe": reference}, file, line))
    source = read_source(path)
    header, problems = check_header(source)
    parent, above = header.get("extends"), None
    if parent is not None:
        beside = str(path.parent / parent) if parent.endswith(".toml") else parent
        try:
            above = _load(beside, (*children, path.resolve()), source.file, source.line("recipe", "extends"))
        except FinetuiError as error:
            problems += error.problems
    stage = header.get("stage") or (above.stage if above else None)
    method = header.get("method") or (above.method if above else None)
    own, wrong = check_knobs(source, stage, method)
    problems += wrong
    if problems:
        raise FinetuiError(sorted(problems, key=lambda problem: (problem.file != source.file, problem.line or 0)))
    assert stage is not None
    assert method is not None
    taken = {
        name: value
        for name, value in (above.values if above else {}).items()
        if name not in own and knobs()[name].applies(stage, method)
    }
    return Recipe(
        header.get("name") or path.stem, stage, method, {**taken, **own}, source.text, parent or "", frozenset(taken)
    )
