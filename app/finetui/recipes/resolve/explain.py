"""Why a layout was taken: what the next ones would need of memory, or cost in time."""

from __future__ import annotations

from dataclasses import replace

from finetui.core.figures import duration, gib
from finetui.core.knobs import Value
from finetui.recipes.resolve.layout import Fitted, Frame, Open
from finetui.recipes.resolve.settings import Choice


def layout(name: str, value: Value, frame: Frame, fitted: Fitted, free: Open, eval_batch: int) -> Choice:
    """The choice of one knob of the layout that was taken."""
    reasons = {
        "parallelism": _parallelism,
        "per_device_train_batch_size": _micro,
        "gradient_checkpointing": _checkpointing,
        "packing": _packing,
    }
    code, facts = reasons[name](frame, fitted, free, eval_batch)
    common = {"device": frame.device.name, "free": gib(frame.device.free_bytes), "peak": gib(fitted.prediction.band[1])}
    return Choice(value, f"reasons.{code}", {**common, **facts})


_Reason = tuple[str, dict[str, object]]


def _parallelism(frame: Frame, fitted: Fitted, free: Open, eval_batch: int) -> _Reason:
    taken = fitted.layout.parallelism
    if taken == "single":
        return "parallelism-single", {}
    if taken == "ddp" and len(free.parallelism) == 1:
        return "parallelism-only", {"count": frame.world}
    if taken == "ddp":
        return "parallelism-ddp", {"count": frame.world}
    alone = frame.predict(next(free.layouts("ddp")), eval_batch).band[1]
    return "parallelism-fsdp2", {"alone": gib(alone), "count": frame.world}


def _micro(frame: Frame, fitted: Fitted, free: Open, eval_batch: int) -> _Reason:
    taken = fitted.layout
    facts: dict[str, object] = {"micro": taken.micro, "seconds": duration(fitted.seconds)}
    if not fitted.fits:
        return "micro-least", facts
    if len(free.micro) == 1:
        return "micro-only", facts
    larger = [micro for micro in free.micro if micro > taken.micro]
    if not larger:
        return "micro-all", {**facts, "rows": frame.process_rows}
    more = replace(taken, micro=min(larger))
    facts |= {"more": more.micro, "more_peak": gib(frame.predict(more, eval_batch).band[1])}
    if not frame.fits(more, eval_batch):
        return "micro-fits", facts
    return "micro-fast", {**facts, "more_seconds": duration(frame.seconds(more))}


def _checkpointing(frame: Frame, fitted: Fitted, free: Open, eval_batch: int) -> _Reason:
    taken = fitted.layout
    other = replace(taken, checkpointing=not taken.checkpointing)
    facts: dict[str, object] = {"micro": taken.micro, "seconds": duration(fitted.seconds)}
    facts |= {
        "other_peak": gib(frame.predict(other, eval_batch).band[1]),
        "other_seconds": duration(frame.seconds(other)),
    }
    if not taken.checkpointing:
        return "checkpointing-off", facts
    return ("checkpointing-faster" if frame.fits(other, eval_batch) else "checkpointing-on"), facts


def _packing(frame: Frame, fitted: Fitted, free: Open, eval_batch: int) -> _Reason:
    taken = fitted.layout
    other = replace(taken, packing=not taken.packing)
    facts: dict[str, object] = {"seconds": duration(fitted.seconds)}
    if taken.packing:
        return "packing-on", {**facts, "other_seconds": duration(frame.seconds(other))}
    if len(free.packing) == 1:
        return "packing-cpu" if frame.device.kind is None else "packing-impossible", facts
    packed = frame.seconds(other)
    facts |= {"other_seconds": duration(packed), "other_peak": gib(frame.predict(other, eval_batch).band[1])}
    if not frame.fits(other, eval_batch):
        return "packing-large", facts
    return ("packing-slower" if packed > fitted.seconds else "packing-off"), facts
