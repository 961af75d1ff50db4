"""From what is asked to one whole set of settings: every knob with a value, and every value with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from finetui.core.figures import gib
from finetui.core.knobs import Value, knobs
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.predict import Prediction
from finetui.models.outline import Outline
from finetui.recipes.resolve import derive, explain
from finetui.recipes.resolve.device import Device, device_of
from finetui.recipes.resolve.layout import Fitted, Frame, Open, fit, micro_batches
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.saving import Saving, saving
from finetui.recipes.resolve.settings import Choice, Settings
from finetui.recipes.resolve.stretch import cutoff
from finetui.recipes.resolve.targets import adapted, targets
from finetui.recipes.resolve.tokens import load_of

_MOST_EVALUATED = 32
_LAID_OUT = {
    "parallelism": "parallelism",
    "per_device_train_batch_size": "micro",
    "gradient_checkpointing": "checkpointing",
    "packing": "packing",
}
"""The knobs of a layout, and the layout's own names for them."""


@dataclass(frozen=True)
class Settled:
    """Settings, and what they come to on the device."""

    request: Request
    settings: Settings
    frame: Frame
    fitted: Fitted
    eval_batch: int
    """Rows of an evaluation pass; 0 where nothing is evaluated."""
    saving: Saving

    @property
    def prediction(self) -> Prediction:
        """The peak of one process, evaluation included."""
        return self.fitted.prediction

    @property
    def fits(self) -> bool:
        """Whether the upper edge of the prediction is free."""
        return self.prediction.fits(self.frame.device.free_bytes)

    @property
    def job(self) -> Job:
        """What was predicted."""
        return self.frame.job(self.fitted.layout, self.eval_batch)


def settle(request: Request) -> Settled:
    """Give every knob that stage and method have its value."""
    asked = request.asked()
    choices = _begin(request, asked)
    count = _number(choices["nproc_per_node"])
    device = device_of(request.machine, count)
    choices.setdefault("dtype", derive.dtype(device))
    choices.setdefault("attn_implementation", derive.attention(request, device, choices["dtype"].value))
    choices.setdefault("omp_num_threads", derive.threads(request, count))
    choices["rows_per_step"] = derive.rows_per_step(asked, count)
    if "target_modules" in choices:
        choices["target_modules"] = targets(request.model, choices["target_modules"])
    free = _open(request, choices, device, count)
    least = _eval_batch_stated(request, choices)
    base = job_base(request, choices, count)
    cut = cutoff(request, choices, free, least, lambda length: _frame(request, choices, base, device, length))
    choices["max_length"] = cut
    frame = _frame(request, choices, base, device, _number(cut))
    fitted = fit(frame, free, least)
    for name, part in _LAID_OUT.items():
        if name not in choices and knobs()[name].applies(request.stage, request.method):
            choices[name] = explain.layout(name, getattr(fitted.layout, part), frame, fitted, free, least)
    choices["gradient_accumulation_steps"] = derive.accumulation(
        asked, frame.rows, fitted.layout.micro, count, packed=fitted.layout.packing
    )
    if "load_in_4bit" in choices:
        choices.setdefault("bnb_4bit_quant_storage", derive.storage({n: c.value for n, c in choices.items()}))
    evaluated = _evaluation(request, choices, frame, fitted, least)
    fitted = replace(fitted, prediction=frame.predict(fitted.layout, evaluated))
    kept = saving(request, choices, frame, fitted)
    choices |= kept.choices
    settings = Settings({name: choices[name] for name in knobs() if name in choices})
    return Settled(request, settings, frame, fitted, evaluated, kept)


def job_base(request: Request, choices: Mapping[str, Choice], count: int) -> Job:
    """The training as its result demands it; layout and rows are filled in later."""
    values = {name: choice.value for name, choice in choices.items()}
    job = Job(
        method=request.method,
        stage=request.stage,
        dtype=str(values["dtype"]),
        optimizer=str(values["optim"]),
        attention=str(values["attn_implementation"]),
        world_size=count,
    )
    if request.method == "full":
        return replace(job, master_weights=bool(values["master_weights"]))
    rank, dropout = values["r"], values["lora_dropout"]
    assert isinstance(rank, int)
    assert isinstance(dropout, (int, float))
    return replace(
        job,
        r=rank,
        lora_dropout=float(dropout),
        targets=adapted(request.model, values["target_modules"]),
        use_dora=bool(values["use_dora"]),
        quantization=_quantization(request.model, values),
        double_quant=bool(values["bnb_4bit_use_double_quant"]),
    )


def _begin(request: Request, asked: Mapping[str, Choice]) -> dict[str, Choice]:
    """What is stated or has a default, and the number of processes; the rows of a step come later."""
    choices = {}
    for name, knob in knobs().items():
        if knob.applies(request.stage, request.method):
            if name in asked:
                choices[name] = asked[name]
            elif knob.default is not None:
                choices[name] = Choice(knob.default, "reasons.default")
    choices.pop("rows_per_step", None)
    choices.setdefault("nproc_per_node", derive.processes(request, asked))
    return choices


def _open(request: Request, choices: Mapping[str, Choice], device: Device, count: int) -> Open:
    """The layouts that what is stated leaves open."""
    rows = -(-_number(choices["rows_per_step"]) // count)
    micro = micro_batches(rows)
    if "per_device_train_batch_size" in choices:
        micro = (_number(choices["per_device_train_batch_size"]),)
    elif "gradient_accumulation_steps" in choices:
        micro = (-(-rows // _number(choices["gradient_accumulation_steps"])),)
    elif request.stage == "kto":
        micro = tuple(each for each in micro if each >= 4) or (4,)  # its reference term is of the micro batch
    return Open(
        parallelism=_parallelism(choices, device, count),
        micro=micro,
        checkpointing=_yes_or_no(choices, "gradient_checkpointing", possible=True),
        packing=_yes_or_no(choices, "packing", possible=_packs(request, choices, device)),
    )


def _parallelism(choices: Mapping[str, Choice], device: Device, count: int) -> tuple[str, ...]:
    if "parallelism" in choices:
        return (str(choices["parallelism"].value),)
    if count == 1:
        return ("single",)
    values = {name: choice.value for name, choice in choices.items()}
    shards = device.kind is not None and not values.get("load_in_8bit") and "bit" not in str(values["optim"])
    shards = shards and values.get("dtype") != "float16"
    return ("ddp", "fsdp2") if shards else ("ddp",)


def _packs(request: Request, choices: Mapping[str, Choice], device: Device) -> bool:
    linear = any(block.attention == "linear_attention" for block, _ in request.model.shape.blocks)
    fused = choices["attn_implementation"].value != "eager"
    return request.stage in ("sft", "pt") and device.kind is not None and fused and not linear


def _yes_or_no(choices: Mapping[str, Choice], name: str, *, possible: bool) -> tuple[bool, ...]:
    if name in choices:
        return (bool(choices[name].value),)
    return (False, True) if possible else (False,)


def _frame(request: Request, choices: Mapping[str, Choice], base: Job, device: Device, max_length: int) -> Frame:
    load = load_of(request.tokens, max_length)
    return Frame(request.model.shape, base, load, _number(choices["rows_per_step"]), device)


def _eval_batch_stated(request: Request, choices: Mapping[str, Choice]) -> int:
    """Rows of an evaluation pass that have to fit in any case: those stated, else one; none without evaluation."""
    if not evaluates(request):
        return 0
    stated = choices.get("per_device_eval_batch_size")
    return 1 if stated is None else _number(stated)


def evaluates(request: Request) -> bool:
    """Whether there will be evaluation rows."""
    if request.tokens is not None:
        return request.tokens.held_rows > 0
    return bool({**request.recipe.values, **request.overrides}.get("val_size"))


def _evaluation(request: Request, choices: dict[str, Choice], frame: Frame, fitted: Fitted, least: int) -> int:
    """Settle the batch of evaluation: as large as leaves the peak to the training."""
    name = "per_device_eval_batch_size"
    if name in choices:
        return least
    if least == 0:
        choices[name] = Choice(fitted.layout.micro, "reasons.evaluation-none")
        return 0
    peak = max(frame.predict(fitted.layout, size).total_bytes for size in (0, 1))
    sizes = [1 << power for power in range(_MOST_EVALUATED.bit_length())]
    batch = max(size for size in sizes if size == 1 or frame.predict(fitted.layout, size).total_bytes <= peak)
    choices[name] = Choice(batch, "reasons.evaluation", {"batch": batch, "peak": gib(peak)})
    return batch


def _quantization(model: Outline, values: Mapping[str, Value]) -> str | None:
    """Of the frozen weights: as the settings say, else as the checkpoint comes."""
    if values["load_in_4bit"]:
        return str(values["bnb_4bit_quant_type"])
    if values["load_in_8bit"]:
        return "int8"
    if model.quantization is None:
        return None
    if "bitsandbytes" in model.quantization or model.quantization == "mxfp4":
        return "nf4" if model.bits() == 4 else "int8"
    return "gptq4" if model.bits() <= 4 else "gptq8"


def _number(choice: Choice) -> int:
    assert isinstance(choice.value, int)
    return choice.value
