"""The flags of the commands that choose rows; each that bears a knob's name is checked as that knob."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetui.cli.common import option
from finetui.cli.data_options import DataWord
from finetui.core.errors import USAGE, FinetuiError, Problem

if TYPE_CHECKING:
    from finetui.core.knobs import Value
    from finetui.data.choose.decide import Count

_KNOBS = ("max_samples", "val_size", "test_size", "group_by", "dedupe", "min_tokens", "max_tokens")
_FLAGS = (
    option("--max-samples", type=str, metavar="N", help_code="choose.opt-max-samples"),
    option("--val-size", type=str, metavar="SHARE|N", help_code="choose.opt-val-size"),
    option("--test-size", type=str, metavar="SHARE|N", help_code="choose.opt-test-size"),
    option("--eval-data", "evaluation", type=DataWord(), multiple=True, metavar="PATH", help_code="choose.opt-eval"),
    option("--group-by", type=str, metavar="FIELD", help_code="choose.opt-group-by"),
    option("--dedupe", type=str, metavar="exact|near", help_code="choose.opt-dedupe"),
    option("--min-tokens", type=str, metavar="N", help_code="choose.opt-min-tokens"),
    option("--max-tokens", type=str, metavar="N", help_code="choose.opt-max-tokens"),
    option("--fill", multiple=True, metavar="NAME=TEXT", help_code="choose.opt-fill"),
)
_SEED = option("--seed", type=str, metavar="N", help_code="choose.opt-seed")


@dataclass(frozen=True)
class Choices:
    """What the flags said."""

    assignments: tuple[str, ...]
    """`knob=value`, checked."""
    evaluation: tuple[str, ...]
    """Data that is not trained."""
    fill: Mapping[str, str]
    """Text by placeholder."""

    def values(self) -> dict[str, Value]:
        """The knobs that were set."""
        from finetui.core.knobs import parse_assignments

        return parse_assignments(self.assignments)


def choose_options(*, seed: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the flags; the function gets them as one `choices`. `seed` adds --seed, where nothing else sets that knob."""
    flags = [*_FLAGS, _SEED] if seed else _FLAGS

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, evaluation: tuple[str, ...], fill: tuple[str, ...], **others: Any) -> Any:
            given = {name: others.pop(name) for name in (*_KNOBS, *(["seed"] if seed else []))}
            return function(*arguments, choices=_choices(given, evaluation, fill), **others)

        call.__name__, call.__doc__ = function.__name__, function.__doc__
        call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for flag in reversed(flags):
            call = flag(call)
        return call

    return decorate


def token_counter_of(model: str | None, template: str | None) -> Count:
    """Counts tokens as this model sees them.

    Raises FinetuiError (exit 2) where no model is named, or as finding it does.
    """
    if model is None:
        raise FinetuiError(Problem("choose.tokens-need-model"), USAGE)
    from finetui.core.encode import load_template, load_tokenizer
    from finetui.data.choose.tokens import token_counter
    from finetui.models.find import find_model

    folder = find_model(model)
    tokenizer = load_tokenizer(folder)
    return token_counter(tokenizer, load_template(folder, tokenizer, template))


def _choices(given: Mapping[str, str | None], evaluation: tuple[str, ...], fill: tuple[str, ...]) -> Choices:
    from finetui.core.knobs import parse_assignments

    assignments = tuple(f"{name}={value}" for name, value in given.items() if value is not None)
    problems: list[Problem] = []
    for assignment in assignments:
        try:
            parse_assignments([assignment])
        except FinetuiError as error:
            flag = "--" + assignment.partition("=")[0].replace("_", "-")
            problems += [Problem(problem.code, problem.facts, flag) for problem in error.problems]
    texts: dict[str, str] = {}
    for word in fill:
        name, equals, text = word.partition("=")
        name = name.strip().strip("{}").strip()
        texts[name] = text
        if not (name and equals):
            problems.append(Problem("choose.bad-fill", {"text": word}))
    if problems:
        raise FinetuiError(problems, USAGE)
    return Choices(assignments, evaluation, texts)
