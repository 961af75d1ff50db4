"""What the lock says: every setting, read strictly, so that none is ignored and none is guessed."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .failure import Failure

LOCK_VERSION = 0


# Settings that one method has, and that are None under another.
_LORA = {"method": "lora"}
_FULL = {"method": "full"}
# Settings of memory and speed alone, which a resumed training may have otherwise than the lock.
_MEMORY = {"memory": True}


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Every setting of a locked training, under upstream's name. One that the lock has beyond these is an error."""

    r: int | None = field(default=None, metadata=_LORA)
    lora_alpha: float | None = field(default=None, metadata=_LORA)
    lora_dropout: float | None = field(default=None, metadata=_LORA)
    target_modules: str | list | None = field(default=None, metadata=_LORA)
    use_dora: bool | None = field(default=None, metadata=_LORA)
    use_rslora: bool | None = field(default=None, metadata=_LORA)
    load_in_4bit: bool | None = field(default=None, metadata=_LORA)
    load_in_8bit: bool | None = field(default=None, metadata=_LORA)
    bnb_4bit_quant_type: str | None = field(default=None, metadata=_LORA)
    bnb_4bit_use_double_quant: bool | None = field(default=None, metadata=_LORA)
    bnb_4bit_quant_storage: str | None = field(default=None, metadata=_LORA | _MEMORY)
    master_weights: bool | None = field(default=None, metadata=_FULL)
    """Keep float32 weights and compute in `dtype`; false: weights, gradients and states are in `dtype`."""
    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: float
    """Steps; below 1 a share of all steps."""
    weight_decay: float
    max_grad_norm: float
    num_train_epochs: float
    max_steps: int
    """Overrides `num_train_epochs` where it is not -1."""
    per_device_train_batch_size: int = field(metadata=_MEMORY)
    gradient_accumulation_steps: int = field(metadata=_MEMORY)
    """Packed rows take at most so many packs a process."""
    per_device_eval_batch_size: int = field(metadata=_MEMORY)
    rows_per_step: int
    """Over all processes; the last micro batches of a step may be short or blank."""
    packing: bool = field(metadata=_MEMORY)
    """Rows of a step laid end to end, up to `max_length` × `per_device_train_batch_size` tokens a pack."""
    max_length: int
    """The rows are no longer than this; checked, not cut, here."""
    overlong: str
    """Decided when the rows were locked; nothing is left to do for it here."""
    seed: int
    optim: str
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    dtype: str
    """float32, bfloat16 or float16: of frozen weights and of the computation. An adapter stays in float32."""
    attn_implementation: str = field(metadata=_MEMORY)
    gradient_checkpointing: bool = field(metadata=_MEMORY)
    load_best_model_at_end: bool
    """The result is the checkpoint with the lowest evaluation loss."""
    save_steps: int = field(metadata=_MEMORY)
    """0 for none."""
    save_total_limit: int = field(metadata=_MEMORY)
    eval_steps: int = field(metadata=_MEMORY)
    """0 for once, at the end."""
    parallelism: str
    """single, ddp or fsdp2."""
    nproc_per_node: int
    """Obeyed by launch.sh, checked here as the world size."""
    omp_num_threads: int = field(metadata=_MEMORY)

    @property
    def mixed(self) -> bool:
        """Whether autocast computes in `dtype` on weights of which some are in float32."""
        return self.dtype != "float32" and self.master_weights is not False

    def lighter(self) -> str:
        """Settings that take less memory and leave the result as it is, for who has run out of it."""
        ways = []
        if self.attn_implementation == "eager":
            ways.append("attn_implementation=sdpa")
        if not self.gradient_checkpointing:
            ways.append("gradient_checkpointing=true")
        if self.per_device_train_batch_size > 1:
            steps = -(-self.rows_per_step // self.nproc_per_node)
            ways.append(f"per_device_train_batch_size=1 with gradient_accumulation_steps={steps}")
        if self.per_device_eval_batch_size > 1:
            ways.append("per_device_eval_batch_size=1")
        if not ways:
            return "no setting takes less memory and leaves the result as it is"
        return f"less memory for the same result: {', '.join(ways)}"

    def room(self, world_size: int) -> int:
        """Rows that the micro batches of one optimizer step have room for over all processes."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * world_size


@dataclass(frozen=True)
class Lock:
    """The part of lock.json that training needs."""

    method: str
    """lora or full."""
    model: Mapping[str, Any]
    """`name`, `architecture`, `vocab_size` and `files` (SHA-256 by name)."""
    train: Mapping[str, Any]
    """`rows` and `digest` of train.parquet."""
    evaluation: Mapping[str, Any] | None
    """The same of eval.parquet, or None."""
    knobs: Knobs
    world_size: int
    rows_per_step: int
    steps: int
    environment: Mapping[str, str]
    template: Mapping[str, Any]
    """`source`, `text` and `stop_ids` of the chat template."""


def read_lock(path: Path, changes: Mapping[str, Any] | None = None) -> Lock:
    """Read lock.json; `changes` are settings of memory and speed that hold in place of its own.

    Raises Failure where it is of another version, method or stage, or holds settings that cannot be obeyed here.
    """
    lock = json.loads(path.read_text(encoding="utf-8"))
    if changes:
        lock["training"] = _changed(lock, changes)
    if lock["version"] != LOCK_VERSION:
        raise Failure("error", f"lock.json has version {lock['version']}; this trainer reads version {LOCK_VERSION}")
    method, stage = lock["method"], lock["stage"]
    if method not in ("lora", "full") or stage not in ("sft", "pt"):
        raise Failure("error", f"this trainer does lora and full for sft and pt, not {method} for {stage}")
    read = Lock(
        method=method,
        model=lock["model"],
        train=lock["data"]["train"],
        evaluation=lock["data"].get("eval"),
        knobs=_read_knobs(lock["training"], method),
        world_size=lock["world_size"],
        rows_per_step=lock["rows_per_step"],
        steps=lock["steps"],
        environment=lock.get("environment") or {},
        template=lock.get("template") or {},
    )
    if wrong := _contradictions(read):
        raise Failure("error", "; ".join(wrong))
    return read


def _changed(lock: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a lock with others of memory and speed; the rows of a step stay as they are.

    Raises Failure where one of them would change the result.
    """
    training = lock["training"]
    free = {known.name for known in fields(Knobs) if known.metadata.get("memory")}
    if training.get("load_best_model_at_end", {}).get("value"):
        free -= {"save_steps", "eval_steps"}  # they decide which checkpoint is the best
    if wrong := sorted({*changes} - free | {*changes} - {*training}):
        raise Failure(
            "resume-mismatch", f"a resumed training cannot change {', '.join(wrong)}: the result would change"
        )
    micro = changes.get("per_device_train_batch_size")
    if isinstance(micro, int) and micro > 0 and "gradient_accumulation_steps" not in changes:
        steps = -(-lock["rows_per_step"] // (micro * lock["world_size"]))
        changes = {**changes, "gradient_accumulation_steps": steps}
    return {**training, **{name: {"value": value} for name, value in changes.items()}}


def _contradictions(lock: Lock) -> list[str]:
    """What the settings ask for that does not go together, or not here."""
    knobs, wrong = lock.knobs, []
    if knobs.parallelism == "fsdp2":
        wrong += _unshared(knobs)
    if knobs.parallelism == "single" and lock.world_size > 1:
        wrong.append(f"parallelism is single, and the lock has {lock.world_size} processes")
    if knobs.attn_implementation == "flash_attention_2" and knobs.dtype == "float32":
        wrong.append("flash_attention_2 computes in 16 bits, and dtype is float32")
    if knobs.dtype == "float16" and knobs.master_weights is False:
        wrong.append("float16 weights cannot be trained: their gradients cannot be scaled; set master_weights=true")
    if knobs.load_best_model_at_end and not lock.evaluation:
        wrong.append("load_best_model_at_end needs evaluation rows")
    elif knobs.load_best_model_at_end and not (knobs.eval_steps and knobs.save_steps):
        wrong.append("load_best_model_at_end needs eval_steps and save_steps")
    elif knobs.load_best_model_at_end and knobs.save_steps % knobs.eval_steps:
        every = f"save_steps {knobs.save_steps} is no multiple of eval_steps {knobs.eval_steps}"
        wrong.append(f"load_best_model_at_end needs an evaluation of each checkpoint: {every}")
    return wrong


def _unshared(knobs: Knobs) -> list[str]:
    """What cannot be shared out over processes."""
    wrong = []
    if knobs.load_in_8bit:
        wrong.append("fsdp2 cannot share out weights in 8 bits; 4 bits it can")
    if knobs.load_in_4bit and knobs.bnb_4bit_quant_storage != knobs.dtype:
        wrong.append(f"fsdp2 shares out weights in 4 bits where bnb_4bit_quant_storage is the dtype, {knobs.dtype}")
    if "bit" in knobs.optim:
        wrong.append(f"fsdp2 cannot share out the states of {knobs.optim}")
    if knobs.dtype == "float16":
        wrong.append("fsdp2 does not scale the gradients of float16; bfloat16 needs no scaling")
    return wrong


def _read_knobs(training: Mapping[str, Any], method: str) -> Knobs:
    kinds = get_type_hints(Knobs)
    names = [known.name for known in fields(Knobs) if known.metadata.get("method", method) == method]
    wrong = [f"{name} is not known to method {method}" for name in sorted({*training} - {*names})]
    values: dict[str, Any] = {}
    for name in names:
        if name not in training:
            wrong.append(f"{name} is missing")
            continue
        value = training[name]["value"]
        fitting = [kind for kind in _kinds(kinds[name]) if _fits(value, kind)]
        if not fitting:
            wrong.append(f"{name} cannot be {value!r}")
        values[name] = float(value) if fitting == [float] else value
    if wrong:
        raise Failure("error", f"settings of lock.json: {'; '.join(wrong)}")
    return Knobs(**values)


def _kinds(kind: Any) -> tuple[type, ...]:
    """The types that a setting comes in; a setting that is there is never None."""
    kinds = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return tuple(kind for kind in kinds if kind is not types.NoneType)


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
