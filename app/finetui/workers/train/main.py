"""Train what a bundle's lock says: `python -m torch.distributed.run … -m train.main`, started by launch.sh.

Reads lock.json beside this folder; from the environment MODEL, DATA, OUT, FINETUI_EVENTS, FINETUI_STOP_AFTER,
FINETUI_REHEARSE, FINETUI_RESUME and FINETUI_CHANGES.
Leaves OUT/output and, last of all, OUT/done.json; or a `failed` event, and neither of them.
Exit codes: 0 done, 1 failed, 75 interrupted by SIGTERM or SIGUSR1: what was trained is saved, and can be gone on from.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import TrainingArguments

from . import adapter, machine, parallel
from .checkpoints import Checkpoints, Sealed, best
from .data import Rows, read_rows
from .events import Events
from .failure import INTERRUPTED_EXIT_CODE, Failure, Interrupted, explain
from .order import Order, count_steps
from .record import sync_folder, write_json
from .results import Adapter, Result, Weights
from .resume import Start, facts_of, find_start
from .settings import Lock, read_lock
from .sharded import Shards
from .trainer import Steps, TokenTrainer


@dataclass(frozen=True)
class Place:
    """Where things are, which process this is, and how far to go: all that comes from the environment."""

    lock: Path
    model: Path
    data: Path
    out: Path
    events: Path
    stop_after: int | None
    rehearses: bool
    resume: str | None
    """The checkpoint to go on from, or `newest`; None for a training that begins."""
    changes: Mapping[str, Any]
    """Settings of memory and speed that hold in place of the lock's."""
    rank: int
    world_size: int


class Stop:
    """A stop by SIGTERM or SIGUSR1: at once before the training, after its step and a checkpoint within it."""

    def __init__(self) -> None:
        self.asked = False
        self.waits = False
        """Whether the training has begun, and sees to it by itself."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True
        if not self.waits:
            raise Interrupted


def main() -> int:
    """Train, and say how it ended."""
    place = find_place()
    events = Events(place.events if place.rank == 0 else None)
    lock: Lock | None = None
    trainer: TokenTrainer | None = None
    try:
        stop = Stop()
        lock = read_lock(place.lock, place.changes)
        rows, evaluation = read_data(lock, place)
        start = find_start(place.resume, place.out / "checkpoints", lock) if place.resume else None
        say_started(lock, place, events, len(rows), start)
        checkpoint = start.checkpoint if start is not None else None
        parallel.meet(place.rank, place.world_size, lambda failure: say_failed(place, events, failure))
        parallel.check_start(0 if start is None else start.step, place.world_size)
        result = load(lock, place, events)
        trainer = prepare(lock, place, events, result, rows, evaluation, checkpoint, stop)
        stop.waits = True
        trainer.train(str(checkpoint.path) if checkpoint is not None else None)
        done = trainer.state.global_step
        if trainer.stopping and done < lock.steps:
            events.write("warning", done, code="stopped", text="interrupted; a checkpoint is saved, and can be resumed")
            leave()
            return INTERRUPTED_EXIT_CODE
        finish(lock, place, events, trainer, result)
    except Interrupted:
        events.write("warning", code="stopped", text="interrupted before the training began; it can be resumed")
        return INTERRUPTED_EXIT_CODE
    except BaseException as error:
        failure = explain(error, lock.knobs.lighter() if lock is not None else "")
        step = trainer.state.global_step if trainer is not None else None
        traceback.print_exc()
        say_failed(place, events, failure, step)
        return 1
    return 0


def say_failed(place: Place, events: Events, failure: Failure, step: int | None = None) -> None:
    """The last event, and for the other processes, which write none, the last line of the log."""
    with contextlib.suppress(OSError):  # on a full disk the log, which may be elsewhere, is all that is left
        events.write("failed", step, cause=failure.cause, detail=failure.detail)
    print(f"process {place.rank} failed: {failure.cause}: {failure.detail}", file=sys.stderr, flush=True)


def find_place() -> Place:
    """Read the environment that launch.sh and torch.distributed.run have made."""
    bundle = Path(__file__).resolve().parents[1]
    out = Path(os.environ["OUT"])
    stop_after = os.environ.get("FINETUI_STOP_AFTER")
    return Place(
        lock=bundle / "lock.json",
        model=Path(os.environ["MODEL"]),
        data=Path(os.environ.get("DATA") or bundle / "data"),
        out=out,
        events=Path(os.environ.get("FINETUI_EVENTS") or out / "events.jsonl"),
        stop_after=int(stop_after) if stop_after else None,
        rehearses=os.environ.get("FINETUI_REHEARSE", str(int(machine.on_cuda()))) == "1",
        resume=os.environ.get("FINETUI_RESUME") or None,
        changes=json.loads(os.environ.get("FINETUI_CHANGES") or "{}"),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def read_data(lock: Lock, place: Place) -> tuple[Rows, Rows | None]:
    """Read the rows and hold them, and the plan made of them, against the lock."""
    rows = read_rows(place.data / "train.parquet", lock.train["digest"], lock.knobs.max_length)
    evaluation = None
    if lock.evaluation:
        evaluation = read_rows(place.data / "eval.parquet", lock.evaluation["digest"], lock.knobs.max_length)
    if lock.knobs.rows_per_step != lock.rows_per_step or lock.knobs.room(lock.world_size) < lock.rows_per_step:
        made = f"{lock.knobs.rows_per_step} rows a step, with room for {lock.knobs.room(lock.world_size)}"
        raise Failure("error", f"the settings make {made}; the lock has {lock.rows_per_step}")
    if count_steps(len(rows), lock.rows_per_step, lock.knobs) != lock.steps:
        made = count_steps(len(rows), lock.rows_per_step, lock.knobs)
        raise Failure("error", f"the settings make {made} steps, the lock has {lock.steps}")
    return rows, evaluation


def say_started(lock: Lock, place: Place, events: Events, rows: int, start: Start | None) -> None:
    """Write the first event, and why a training that goes on does not begin later.

    Raises Failure (world-size) where not as many processes run as the lock says.
    """
    events.write(
        "started",
        world_size=place.world_size,
        python=platform.python_version(),
        packages=machine.versions(),
        device=machine.device_name(),
        steps=lock.steps,
        rows=rows,
        **({} if start is None else {"resumed_from": start.step}),
        **({"changes": dict(place.changes)} if place.changes else {}),
    )
    if place.world_size != lock.world_size:
        raise Failure("world-size", f"{place.world_size} processes run, the lock has {lock.world_size}")
    if differing := machine.differing_variables(lock.environment):
        events.write("warning", code="environment", text="; ".join(differing))
    for rejected in start.rejected if start is not None else ():
        events.write("warning", code="checkpoint-damaged", text=f"passed over: {rejected}")
    if start is not None and start.checkpoint is None:
        events.write("warning", code="no-checkpoint", text="there is no complete checkpoint: all begins from step 0")


def load(lock: Lock, place: Place, events: Events) -> Result:
    """The base model, made ready for the method of the lock; everything random seeded."""
    started = time.monotonic()
    machine.check_able(lock.knobs)
    machine.set_up(lock.knobs)
    machine.be_quiet()
    base = adapter.load_model(place.model, lock)
    result: Result = Adapter(base, lock) if lock.method == "lora" else Weights(base, place.model, lock)
    if lock.knobs.parallelism == "fsdp2":
        result = Shards(result, lock.knobs, place.world_size)
    parameters, trainable = result.counts
    events.write(
        "model_loaded",
        parameters=parameters,
        trainable_parameters=trainable,
        seconds=time.monotonic() - started,
    )
    return result


def prepare(
    lock: Lock,
    place: Place,
    events: Events,
    result: Result,
    rows: Rows,
    evaluation: Rows | None,
    checkpoint: Sealed | None,
    stop: Stop,
) -> TokenTrainer:
    """The trainer, ready to train."""
    steps = Steps(place.stop_after)
    knobs = lock.knobs
    folder = place.out / "checkpoints"
    trainer = TokenTrainer(
        result=result,
        order=Order(rows, knobs, lock.steps, place.world_size, place.rank),
        events=events,
        stop_asked=lambda: stop.asked,
        checkpoints=Checkpoints(folder, knobs.save_total_limit, knobs.load_best_model_at_end, events),
        start=checkpoint,
        made_with=facts_of(lock),
        parallelism=knobs.parallelism,
        packed=knobs.packing,
        rehearses=place.rehearses,
        args=arguments(lock, folder, evaluation is not None),
        eval_dataset=evaluation,
        callbacks=[steps],
    )
    steps.trainer = trainer
    if trainer.args.world_size != lock.world_size:
        raise Failure("world-size", f"{trainer.args.world_size} processes train, the lock has {lock.world_size}")
    torch.manual_seed(knobs.seed + place.rank)  # dropout differs between processes
    return trainer


def arguments(lock: Lock, checkpoints: Path, evaluates: bool) -> TrainingArguments:
    """The settings as transformers' Trainer takes them; the order of rows and the loss are not its business."""
    knobs, steps = lock.knobs, lock.steps
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=knobs.per_device_train_batch_size,
        per_device_eval_batch_size=knobs.per_device_eval_batch_size,
        gradient_accumulation_steps=1,  # a batch of our data loader is a whole step
        max_steps=steps,
        learning_rate=knobs.learning_rate,
        lr_scheduler_type=knobs.lr_scheduler_type,
        warmup_steps=knobs.warmup_steps if knobs.warmup_steps < 1 else int(knobs.warmup_steps),
        weight_decay=knobs.weight_decay,
        max_grad_norm=knobs.max_grad_norm,
        optim=knobs.optim,
        adam_beta1=knobs.adam_beta1,
        adam_beta2=knobs.adam_beta2,
        adam_epsilon=knobs.adam_epsilon,
        bf16=knobs.mixed and knobs.dtype == "bfloat16",
        fp16=knobs.mixed and knobs.dtype == "float16",
        gradient_checkpointing=knobs.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if knobs.gradient_checkpointing else None,
        seed=knobs.seed,
        use_cpu=not machine.on_cuda(),
        ddp_backend=None if machine.on_cuda() else "gloo",
        ddp_find_unused_parameters=False,
        ddp_timeout=parallel.TIMEOUT_S,
        save_strategy="steps" if knobs.save_steps else "no",
        save_steps=knobs.save_steps or steps,
        save_total_limit=None,  # pruned by us, once the new one is sealed
        eval_strategy="steps" if evaluates else "no",
        eval_steps=knobs.eval_steps or steps,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        ignore_data_skip=True,  # our data loader begins with the step that is next
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        average_tokens_across_devices=False,
        disable_tqdm=True,
        report_to="none",
    )


def finish(lock: Lock, place: Place, events: Events, trainer: TokenTrainer, result: Result) -> None:
    """Check and save the result, and write the record of what came out; the other processes wait."""
    progress = trainer.progress
    stopped_early = progress.steps < lock.steps
    if lock.knobs.load_best_model_at_end and (place.rank == 0 or result.shared):
        put_best_back(place.out / "checkpoints", progress.steps, result, events)
    values = result.values()
    if place.rank == 0:
        must_move = progress.highest_learning_rate > 0 or not stopped_early
        digests = save_output(result, values, place.out / "output", must_move)
        figures = {
            "steps": progress.steps,
            "final_loss": progress.loss,
            "seconds": progress.seconds,
            "tokens_per_second": progress.tokens_per_second(),
        }
        record = {"v": 1, "world_size": place.world_size, "stopped_early": stopped_early, "outputs": digests}
        record |= {"changes": dict(place.changes)} if place.changes else {}
        write_json(place.out / "done.json", {**record, **figures, "hardware": machine.hardware(place.world_size)})
        events.write("finished", progress.steps, output_digests=digests, **figures)
    leave()


def leave() -> None:
    """End together with the other processes."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # without it a process that ends first can abort the others' finished work
        torch.distributed.destroy_process_group()


def put_best_back(checkpoints: Path, steps: int, result: Result, events: Events) -> None:
    """Let the result be the checkpoint with the lowest evaluation loss, and say which one that is."""
    found = best(checkpoints)
    if found is None:  # ended before the first one
        return
    if damage := found.damage():
        raise Failure("error", f"the best checkpoint, {found.path.name}, is damaged: {damage}; resume makes it again")
    if found.step != steps:
        result.read_checkpoint(found.path)
    events.write("best", found.step, loss=found.evaluation_loss, path=f"{checkpoints.name}/{found.path.name}")


def save_output(result: Result, values: dict[str, torch.Tensor], folder: Path, must_move: bool) -> dict[str, str]:
    """Save the result so that the folder appears whole; gives the SHA-256 of each file."""
    part = folder.with_name(f"{folder.name}.part")
    for left in (part, folder):  # by a launch that was killed right here
        shutil.rmtree(left, ignore_errors=True)
    try:
        digests = result.save(values, part, must_move=must_move)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(part)
    part.rename(folder)
    sync_folder(folder.parent)
    return digests


def end(code: int) -> NoReturn:
    """Leave; torch's groups of processes are not taken apart: their threads now and then abort one that is done."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
