"""What would fit, where nothing does: the changes that change least, each resolved and predicted like any plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from finetui.core.knobs import knobs
from finetui.core.messages import t
from finetui.recipes.resolve.changes import (
    Change,
    Said,
    adapters,
    assigned,
    both,
    hardware,
    lengths,
    ranks,
    states,
)
from finetui.recipes.resolve.facts import facts_of
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.rules import broken
from finetui.recipes.resolve.settle import Settled, settle

MOST = 3
_FREED: tuple[tuple[str, ...], ...] = (
    ("per_device_train_batch_size", "gradient_accumulation_steps"),
    ("gradient_checkpointing",),
    ("per_device_eval_batch_size", "packing"),
    ("attn_implementation",),
    ("parallelism", "nproc_per_node", "bnb_4bit_quant_storage"),
)
"""Knobs of memory and speed alone, in the order in which stated ones are given up."""
_ROWS = "rows_per_step"


@dataclass(frozen=True)
class Way:
    """One way out."""

    said: tuple[Said, ...]
    """What it changes, a message each."""
    words: tuple[str, ...]
    """What to say on the command line, as pairs of a flag and its word, in place of what was said of the same."""
    settled: Settled

    def text(self, lang: str | None = None) -> str:
        """What it changes, in one line."""
        return t("plan.and", lang).join(t(said.code, lang, **said.facts) for said in self.said)

    def to_json(self) -> dict[str, Any]:
        """An entry of `ways_out` in the contract of `plan`."""
        prediction, device = self.settled.prediction, self.settled.frame.device
        return {
            "changes": [said.code.removeprefix("plan.way-") for said in self.said],
            "text": self.text("en"),
            "words": list(self.words),
            "gpus": {"kind": device.kind, "count": len(self.settled.request.machine.gpus)},
            "predicted_peak_bytes": prediction.total_bytes,
            "band": list(prediction.band),
            "free_bytes": device.free_bytes,
            "seconds_per_step": round(self.settled.fitted.seconds, 3),
        }

    def begins(self, change: Change) -> bool:
        """Whether it is this change, be it with knobs of memory besides."""
        return self.words[: len(change.words)] == change.words

    def names(self) -> frozenset[str]:
        """What it says something of: knobs by their names, flags with their words."""
        pairs = zip(self.words[::2], self.words[1::2], strict=True)
        return frozenset(word.partition("=")[0] if flag == "--set" else f"{flag} {word}" for flag, word in pairs)


def ways_out(settled: Settled) -> tuple[Way, ...]:
    """The first of each sort of change that fits, at most three, by how little they change.

    One that says all that an earlier one says, and more, is none.
    """
    found: list[Way] = []
    known = _refusing(settled)
    for changes in _sorts(settled, found):
        ways = (way for change in changes if (way := _judged(change, settled, known)) is not None)
        new = next((way for way in ways if not any(way.names() >= other.names() for other in found)), None)
        if new is not None:
            found.append(new)
        if len(found) == MOST:
            break
    return tuple(found)


def _sorts(settled: Settled, found: list[Way]) -> Iterator[Iterable[Change]]:
    """Changes of one sort together: of memory alone, of the training, of the machine; then two at once.

    Of two at once neither may do by itself. Where that gives nothing, three at once; then further machines.
    """
    request = settled.request
    yield (Change((), request, ()),) if any(freed for _, freed in _freed(request)) else ()
    for sort in (states, adapters, lengths, hardware, ranks):
        yield sort(settled)
    for method in [*adapters(settled)][::-1] + [*states(settled)][::-1]:  # what saves most needs least besides
        others: tuple[Callable[[Settled], Iterator[Change]], ...] = (lengths, hardware)
        for other in others:
            alone = takewhile(lambda change: not any(way.begins(change) for way in found), other(settled))
            yield (both(method, change) for change in alone)
    if not found:
        shortest = [*lengths(settled)][-1:]
        for method in adapters(settled):
            smallest = [method, *(both(method, length) for length in shortest)]
            yield (both(change, place) for change in smallest for place in hardware(settled))
    for _ in range(MOST - len(found)):
        yield hardware(settled)


def _refusing(settled: Settled) -> frozenset[str]:
    """The rules that these settings break and that more than warn."""
    return frozenset(rule.name for rule in broken(facts_of(settled)) if not rule.warns)


def _judged(change: Change, settled: Settled, known: frozenset[str]) -> Way | None:
    """The way that a change is, where it fits and breaks no rule but known ones.

    Stated knobs of memory alone give way to it.
    """
    for freely, freed in _freed(change.request):
        request, kept = freely, tuple[str, ...]()
        if freed or change.request.machine is not settled.request.machine:
            request, kept = _keeping_rows(freely, change.request, settled)
        found = settle(request)
        derived = {name: found.settings[name] for name in freed if name in found.settings.choices}
        if derived and found.fits:
            found = settle(replace(request, overrides={**request.overrides, **derived}))  # as its command will say it
        if found.fits and _refusing(found) <= known:
            extra = assigned(derived)
            said = (*change.said, *([Said("plan.way-memory", {"names": ", ".join(freed)})] if freed else []))
            return Way(said, (*change.words, *kept, *extra), found)
    return None


def _freed(request: Request) -> Iterator[tuple[Request, tuple[str, ...]]]:
    """The request with more and more of its stated knobs of memory alone left open."""
    asked = request.asked()
    yield request, ()
    open_: tuple[str, ...] = ()
    for names in _FREED:
        stated = tuple(name for name in names if name in asked and _applies(name, request))
        if stated:
            open_ += stated
            yield _without(request, open_), open_


def _keeping_rows(freely: Request, stated: Request, settled: Settled) -> tuple[Request, tuple[str, ...]]:
    """The request with the rows of a step said, where they only follow from micro batch and accumulation."""
    asked = stated.asked()
    follow = all(name in asked for name in _FREED[0])
    if not follow or stated.recipe is not settled.request.recipe or (_ROWS in asked and asked[_ROWS].value != 0):
        return freely, ()
    rows = {_ROWS: settled.settings.rows_per_step}
    return replace(freely, overrides={**freely.overrides, **rows}), assigned(rows)


def _applies(name: str, request: Request) -> bool:
    return knobs()[name].applies(request.stage, request.method)


def _without(request: Request, names: tuple[str, ...]) -> Request:
    """The request with nothing stated of these knobs."""
    kept = {name: value for name, value in request.recipe.values.items() if name not in names}
    overrides = {name: value for name, value in request.overrides.items() if name not in names}
    return replace(request, recipe=replace(request.recipe, values=kept), overrides=overrides)
