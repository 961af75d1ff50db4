"""What would fit, where nothing does: the changes that change least, each resolved and predicted like any plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from types import MappingProxyType
from typing import Any

from finetui.core.knobs import Value, knobs
from finetui.core.messages import t
from finetui.hardware.kinds import gpu_kinds
from finetui.hardware.planned import planned_machine
from finetui.recipes.recipe import Recipe, catalogue, load_recipe
from finetui.recipes.resolve.facts import facts_of
from finetui.recipes.resolve.figures import share
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.rules import broken
from finetui.recipes.resolve.settle import Settled, settle

MOST = 3
_COUNTS = (2, 4, 8)
_FREED: tuple[tuple[str, ...], ...] = (
    ("per_device_train_batch_size",),
    ("gradient_checkpointing",),
    ("per_device_eval_batch_size", "packing"),
    ("attn_implementation",),
    ("parallelism", "nproc_per_node", "bnb_4bit_quant_storage"),
)
"""Knobs of memory and speed alone, in the order in which stated ones are given up."""
_FOLLOWS = "gradient_accumulation_steps"
_PACKED_STATES: Mapping[str, Value] = {"optim": "paged_adamw_8bit"}
_NO_MASTERS: Mapping[str, Value] = {"master_weights": False}
_LENGTHS = (32768, 16384, 8192, 4096, 3072, 2048, 1536, 1024, 768, 512, 256)


@dataclass(frozen=True)
class Said:
    """A message and its figures."""

    code: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """One way out."""

    said: tuple[Said, ...]
    """What it changes, a message each."""
    words: tuple[str, ...]
    """What to add to the command line; a later word wins over an earlier one."""
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


@dataclass(frozen=True)
class _Change:
    said: tuple[Said, ...]
    request: Request
    words: tuple[str, ...]


def ways_out(settled: Settled) -> tuple[Way, ...]:
    """The first few changes that fit, ordered by how little they change."""
    return tuple(islice(_fitting(settled), MOST))


def _fitting(settled: Settled) -> Iterator[Way]:
    seen: set[tuple[str, ...]] = set()
    for change in _changes(settled):
        found = _judged(change)
        if found is not None and found.words not in seen:
            seen.add(found.words)
            yield found


def _judged(change: _Change) -> Way | None:
    """The way that a change is, where it fits and breaks no rule; stated knobs of memory alone give way to it."""
    for request, freed in _freed(change.request):
        found = settle(request)
        if found.fits and not any(not rule.warns for rule in broken(facts_of(found))):
            extra = _set({name: found.settings[name] for name in freed})
            said = (*change.said, *([Said("plan.way-memory", {"names": ", ".join(freed)})] if freed else []))
            return Way(said, (*change.words, *extra), found)
    return None


def _freed(request: Request) -> Iterator[tuple[Request, tuple[str, ...]]]:
    """The request with more and more of its stated knobs of memory alone left open."""
    asked = request.asked()
    yield request, ()
    open_: tuple[str, ...] = ()
    for names in _FREED:
        stated = tuple(name for name in names if name in asked)
        if stated:
            open_ += stated
            follows = (_FOLLOWS,) if _FOLLOWS in request.overrides else ()
            yield _without(request, (*open_, _FOLLOWS)), (*open_, *follows)


def _changes(settled: Settled) -> Iterator[_Change]:
    """Every change worth trying, by how little it changes; two at once last."""
    request = settled.request
    if any(True for _ in islice(_freed(request), 1, None)):
        yield _Change((), request, ())
    methods, hardware = [*_methods(settled)], [*_hardware(settled)]
    yield from methods
    yield from _shorter(settled)
    yield from hardware
    yield from _smaller(request)
    for method in methods[::-1]:  # what saves most first, for it needs least besides
        yield from (_both(method, other) for other in (*_shorter(settled), *hardware))


def _methods(settled: Settled) -> Iterator[_Change]:
    """Other ways to train: fewer bits for what is kept, then fewer weights."""
    request, sharded = settled.request, settled.fitted.layout.parallelism == "fsdp2"
    if request.method == "full":
        if not sharded:
            yield _knobs("states", request, _PACKED_STATES)
        if settled.settings["master_weights"] and settled.settings["dtype"] == "bfloat16":
            yield _knobs("masters", request, _NO_MASTERS)
            if not sharded:
                yield _knobs("masters-states", request, {**_NO_MASTERS, **_PACKED_STATES})
        yield from _recipes(request, "lora")
        yield from _recipes(request, "qlora")
        return
    if settled.frame.base.quantization in (None, "int8"):
        lifted = {"load_in_8bit": False} if settled.frame.base.quantization else {}
        yield _knobs("qlora", request, {**lifted, "load_in_4bit": True})
    if not sharded and "8bit" not in str(settled.settings["optim"]):
        yield _knobs("states", request, _PACKED_STATES)


def _shorter(settled: Settled) -> Iterator[_Change]:
    """Usual lengths below the one that does not fit, the longest first."""
    request, length = settled.request, settled.settings.number("max_length")
    for shorter in _LENGTHS:
        if shorter < length:
            if request.tokens is None:
                yield _knobs("length-blind", request, {"max_length": shorter}, {"length": shorter})
                continue
            losing, rows = request.tokens.train.cut(shorter).losing, request.tokens.train.rows
            facts = {"length": shorter, "losing": losing, "rows": rows, "share": share(losing, rows)}
            yield _knobs("length", request, {"max_length": shorter}, facts)


def _hardware(settled: Settled) -> Iterator[_Change]:
    """More of the same GPUs, then larger ones, fewest and smallest first."""
    request, device = settled.request, settled.frame.device
    kinds = gpu_kinds()
    have = max(1, len(request.machine.gpus))
    places = [(device.kind, count) for count in _COUNTS if count > have and device.kind in kinds]
    larger = sorted(kinds.values(), key=lambda kind: kind.usable_bytes)
    least = device.free_bytes if device.kind else 0
    for count in dict.fromkeys((1, have, *_COUNTS)):
        places += [(kind.name, count) for kind in larger if kind.usable_bytes > least and kind.bf16]
    for kind, count in places:
        assert kind is not None
        machine = planned_machine(kind, count, request.machine)
        moved = replace(request, machine=machine, elsewhere=True, free_disk_bytes=None)
        said = Said("plan.way-gpu", {"count": count, "kind": kind})
        yield _Change((said,), moved, ("--gpu", kind if count == 1 else f"{kind}:{count}"))


def _smaller(request: Request) -> Iterator[_Change]:
    """A smaller rank, its scale kept."""
    values = {name: choice.value for name, choice in request.asked().items()}
    rank, alpha = values.get("r"), values.get("lora_alpha")
    for smaller in (16, 8):
        if request.method == "lora" and isinstance(rank, int) and smaller < rank:
            scaled: dict[str, Value] = {"r": smaller}
            if isinstance(alpha, (int, float)):
                scaled["lora_alpha"] = alpha * smaller / rank
            yield _knobs("rank", request, scaled, {"r": smaller, "rank": rank})


def _recipes(request: Request, prefix: str) -> Iterator[_Change]:
    """The shipped recipe of another method, made for one GPU or for several as the machine has them."""
    many = len(request.machine.gpus) > 1
    named = [name for name in catalogue() if name.startswith(f"{prefix}-") and ("x" in name.rpartition("-")[2]) == many]
    for name in named[:1]:
        recipe = load_recipe(name)
        if recipe.stage == request.stage:
            said = Said(f"plan.way-to-{prefix}", {"recipe": name})
            yield _Change((said,), _as_recipe(request, recipe), ("--recipe", name))


def _as_recipe(request: Request, recipe: Recipe) -> Request:
    """The request with another recipe, less what `--set` says of the old method alone."""
    kept = {n: value for n, value in request.overrides.items() if knobs()[n].applies(recipe.stage, recipe.method)}
    return replace(request, recipe=recipe, overrides=kept)


def _knobs(
    name: str, request: Request, values: Mapping[str, Value], facts: Mapping[str, object] = MappingProxyType({})
) -> _Change:
    said = Said(f"plan.way-{name}", facts)
    return _Change((said,), replace(request, overrides={**request.overrides, **values}), _set(values))


def _both(first: _Change, second: _Change) -> _Change:
    """A change of the training with one of its length or machine."""
    request = replace(
        first.request,
        overrides={**first.request.overrides, **second.request.overrides},
        machine=second.request.machine,
        elsewhere=second.request.elsewhere,
        free_disk_bytes=second.request.free_disk_bytes,
    )
    return _Change((*first.said, *second.said), request, (*first.words, *second.words))


def _set(values: Mapping[str, Value]) -> tuple[str, ...]:
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={_written(value)}"))


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _without(request: Request, names: tuple[str, ...]) -> Request:
    """The request with nothing stated of these knobs."""
    kept = {name: value for name, value in request.recipe.values.items() if name not in names}
    overrides = {name: value for name, value in request.overrides.items() if name not in names}
    return replace(request, recipe=replace(request.recipe, values=kept), overrides=overrides)
