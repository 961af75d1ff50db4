"""The model that somebody named: whether it is here, whole, and small enough for what comes of it."""

from __future__ import annotations

from collections.abc import Iterator

from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, gib, say
from finetui.doctor.situation import Situation
from finetui.models.places import DEMO


def check_model(situation: Situation) -> Iterator[Finding]:
    """What there is to say of the model."""
    model = situation.model
    if model is None:
        return
    facts = {"model": model.reference}
    level = NOTE if situation.purpose.reaches_hub and not situation.purpose.packages else MISSING
    for problem in model.problems:
        yield Finding(MISSING, problem)
    if model.outline is None:
        if not model.problems:
            demo = model.reference == DEMO
            yield say(NOTE, "model-demo") if demo else say(level, "model-absent", **facts)
        return
    outline = model.outline
    if not outline.has_weights:
        yield say(level, "model-no-weights", **facts)
    if not outline.has_tokenizer:
        yield say(WARNING, "model-no-tokenizer", **facts)
    if outline.custom_code:
        yield say(NOTE, "model-code", files=", ".join(outline.custom_code), **facts)
    if outline.weight_bytes is not None:
        yield from _size(situation, outline.weight_bytes, facts)


def _size(situation: Situation, weight_bytes: int, facts: dict[str, str]) -> Iterator[Finding]:
    size = gib(weight_bytes)
    own = situation.disks.get("FINETUI_HOME")
    room = situation.host.ram_free_bytes
    if own is not None and own.free_bytes < weight_bytes:
        yield say(WARNING, "model-disk", size=size, free=gib(own.free_bytes), path=own.path, **facts)
    if not situation.machine.gpus and room < weight_bytes:
        yield say(WARNING, "model-ram", size=size, free=gib(room), **facts)
    yield say(OK, "model-ok", size=size, **facts)
