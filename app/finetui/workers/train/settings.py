"""What the lock says: every setting, read strictly, so that none is ignored and none is guessed."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .failure import Failure

LOCK_VERSION = 0


@dataclass(frozen=True)
class Knobs:
    """Every setting of a locked training, under upstream's name. One that the lock has beyond these is an error."""

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: str | list
    use_dora: bool
    use_rslora: bool
    load_in_4bit: bool
    load_in_8bit: bool
    bnb_4bit_quant_type: str
    bnb_4bit_use_double_quant: bool
    bnb_4bit_quant_storage: str
    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: float
    """Steps; below 1 a share of all steps."""
    weight_decay: float
    max_grad_norm: float
    num_train_epochs: float
    max_steps: int
    """Overrides `num_train_epochs` where it is not -1."""
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    per_device_eval_batch_size: int
    rows_per_step: int
    """Over all processes; micro batches of the last accumulation step may be short."""
    packing: bool
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
    """float32, bfloat16 or float16: of the frozen weights and of the computation. The adapter stays in float32."""
    attn_implementation: str
    gradient_checkpointing: bool
    load_best_model_at_end: bool
    save_steps: int
    """0 for none."""
    save_total_limit: int
    eval_steps: int
    """0 for once, at the end."""
    parallelism: str
    """single, ddp or fsdp2."""
    nproc_per_node: int
    """Obeyed by launch.sh, checked here as the world size."""
    omp_num_threads: int

    def room(self, world_size: int) -> int:
        """Rows that the micro batches of one optimizer step have room for over all processes."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * world_size


@dataclass(frozen=True)
class Lock:
    """The part of lock.json that training needs."""

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


def read_lock(path: Path) -> Lock:
    """Read lock.json.

    Raises Failure where it is of another version, method or stage, or holds a setting that is not obeyed here.
    """
    lock = json.loads(path.read_text(encoding="utf-8"))
    if lock["version"] != LOCK_VERSION:
        raise Failure("error", f"lock.json has version {lock['version']}; this trainer reads version {LOCK_VERSION}")
    if lock["method"] != "lora" or lock["stage"] not in ("sft", "pt"):
        raise Failure("error", f"this trainer does lora for sft and pt, not {lock['method']} for {lock['stage']}")
    return Lock(
        model=lock["model"],
        train=lock["data"]["train"],
        evaluation=lock["data"].get("eval"),
        knobs=_read_knobs(lock["training"]),
        world_size=lock["world_size"],
        rows_per_step=lock["rows_per_step"],
        steps=lock["steps"],
        environment=lock.get("environment") or {},
    )


def _read_knobs(training: Mapping[str, Any]) -> Knobs:
    kinds = get_type_hints(Knobs)
    wrong = [f"{name} is not known" for name in sorted(set(training) - set(kinds))]
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(Knobs)):
        if name not in training:
            wrong.append(f"{name} is missing")
            continue
        value = training[name]["value"]
        if not _fits(value, kinds[name]):
            wrong.append(f"{name} cannot be {value!r}")
        values[name] = float(value) if kinds[name] is float and _fits(value, float) else value
    if wrong:
        raise Failure("error", f"settings of lock.json: {'; '.join(wrong)}")
    return Knobs(**values)


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return isinstance(value, get_args(kind))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
