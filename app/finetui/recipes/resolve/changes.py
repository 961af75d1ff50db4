"""What could be changed of a training that does not fit: method, length of rows, hardware, rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from finetui.core.figures import share
from finetui.core.knobs import Value, knobs
from finetui.hardware.kinds import gpu_kinds
from finetui.hardware.planned import planned_machine
from finetui.recipes.recipe import Recipe, catalogue, load_recipe
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.settle import Settled

_COUNTS = (2, 4, 8)
_PACKED_STATES: Mapping[str, Value] = {"optim": "paged_adamw_8bit"}
_FUSED: Mapping[str, Value] = {"optim": "adamw_torch_fused"}
_NO_MASTERS: Mapping[str, Value] = {"master_weights": False}
_LENGTHS = (32768, 16384, 8192, 4096, 3072, 2048, 1536, 1024, 768, 512, 256)
_RANKS = (16, 8)


@dataclass(frozen=True)
class Said:
    """A message and its figures."""

    code: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One thing to change, or two at once."""

    said: tuple[Said, ...]
    """What that is, a message each."""
    request: Request
    """What is asked then."""
    words: tuple[str, ...]
    """The same as pairs of words of the command line."""


def states(settled: Settled) -> Iterator[Change]:
    """Less that is kept of each weight that is trained."""
    request, sharded = settled.request, settled.fitted.layout.parallelism == "fsdp2"
    if settled.settings["optim"] == "adamw_torch" and request.method == "full":
        yield _knobs("fused", request, _FUSED)
    if not sharded and "8bit" not in str(settled.settings["optim"]):
        yield _knobs("states", request, _PACKED_STATES)
    if request.method == "full" and settled.settings["master_weights"] and settled.settings["dtype"] == "bfloat16":
        yield _knobs("masters", request, _NO_MASTERS)
        if not sharded:
            yield _knobs("masters-states", request, {**_NO_MASTERS, **_PACKED_STATES})


def adapters(settled: Settled) -> Iterator[Change]:
    """Fewer weights that are trained, then fewer bits of those that are not."""
    request = settled.request
    if request.method == "full":
        yield from _recipes(request, "lora")
        yield from _recipes(request, "qlora")
    elif settled.frame.base.quantization in (None, "int8"):
        lifted = {"load_in_8bit": False} if settled.frame.base.quantization else {}
        yield _knobs("qlora", request, {**lifted, "load_in_4bit": True})


def lengths(settled: Settled) -> Iterator[Change]:
    """Usual lengths below the one that does not fit, the longest first."""
    request, length = settled.request, settled.settings.number("max_length")
    for shorter in _LENGTHS:
        if shorter < length:
            if request.tokens is None:
                yield _knobs("length-blind", request, {"max_length": shorter}, {"length": shorter})
                continue
            losing, rows = request.tokens.cut(shorter).losing, request.tokens.train.rows
            if losing < rows:
                facts = {"length": shorter, "losing": losing, "rows": rows, "share": share(losing, rows)}
                yield _knobs("length", request, {"max_length": shorter}, facts)


def hardware(settled: Settled) -> Iterator[Change]:
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
        moved = replace(request, machine=machine, elsewhere=True, free_disk_bytes=None, price=None)
        said = Said("plan.way-gpu", {"count": count, "kind": kind})
        yield Change((said,), moved, ("--gpu", kind if count == 1 else f"{kind}:{count}"))


def ranks(settled: Settled) -> Iterator[Change]:
    """A smaller rank, its scale kept."""
    request = settled.request
    values = {name: choice.value for name, choice in request.asked().items()}
    rank, alpha = values.get("r"), values.get("lora_alpha")
    for smaller in _RANKS:
        if request.method == "lora" and isinstance(rank, int) and smaller < rank:
            scaled: dict[str, Value] = {"r": smaller}
            if isinstance(alpha, (int, float)):
                scaled["lora_alpha"] = alpha * smaller / rank
            yield _knobs("rank", request, scaled, {"r": smaller, "rank": rank})


def both(first: Change, second: Change) -> Change:
    """A change of the training with one of its length or machine."""
    request = replace(
        first.request,
        overrides={**first.request.overrides, **second.request.overrides},
        machine=second.request.machine,
        elsewhere=second.request.elsewhere,
        free_disk_bytes=second.request.free_disk_bytes,
        price=second.request.price,
    )
    kept = {name: value for name, value in request.overrides.items() if _applies(name, first.request.recipe)}
    words = _later((*first.words, *second.words))
    return Change((*first.said, *second.said), replace(request, overrides=kept), words)


def _later(words: tuple[str, ...]) -> tuple[str, ...]:
    """Of pairs of words about the same thing, the later one alone."""
    pairs = zip(words[::2], words[1::2], strict=True)
    kept = {(flag, word.partition("=")[0] if flag == "--set" else ""): (flag, word) for flag, word in pairs}
    return tuple(word for pair in kept.values() for word in pair)


def assigned(values: Mapping[str, Value]) -> tuple[str, ...]:
    """Knobs as words of the command line."""
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={_written(value)}"))


def _recipes(request: Request, prefix: str) -> Iterator[Change]:
    """The shipped recipe of another method, made for one GPU or for several as the machine has them.

    What the old one says of the rows stays, since they are the same rows.
    """
    many = len(request.machine.gpus) > 1
    named = [name for name in catalogue() if name.startswith((f"{prefix}-", f"pretrain-{prefix}"))]
    fitting = [recipe for recipe in map(load_recipe, named) if recipe.stage == request.stage]
    for recipe in sorted(fitting, key=lambda recipe: ("x" in recipe.name.rpartition("-")[2]) != many)[:1]:
        stated = {name: value for name, value in request.recipe.values.items() if _of_rows(name)}
        carried = {name: value for name, value in stated.items() if recipe.values.get(name) != value}
        carried = {name: value for name, value in carried.items() if name not in request.overrides}
        kept = {name: value for name, value in request.overrides.items() if _applies(name, recipe)}
        said = Said(f"plan.way-to-{prefix}", {"recipe": recipe.name})
        asked = replace(request, recipe=recipe, overrides={**carried, **kept})
        yield Change((said,), asked, ("--recipe", recipe.name, *assigned(carried)))


def _of_rows(name: str) -> bool:
    knob = knobs()[name]
    return knob.table == "data" and knob.changes == "result"


def _applies(name: str, recipe: Recipe) -> bool:
    return knobs()[name].applies(recipe.stage, recipe.method)


def _knobs(
    name: str, request: Request, values: Mapping[str, Value], facts: Mapping[str, object] = MappingProxyType({})
) -> Change:
    said = Said(f"plan.way-{name}", facts)
    return Change((said,), replace(request, overrides={**request.overrides, **values}), assigned(values))


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
