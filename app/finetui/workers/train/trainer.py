"""transformers' Trainer, with our order of rows, our loss over the whole batch, and events in place of logs."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from .apart import check_apart
from .bursts import Bursts
from .checkpoints import PREFIX, Checkpoints, Sealed
from .data import collate, lay
from .events import Events
from .failure import Failure
from .loss import check_reached, loss_sum
from .machine import memory_bytes
from .order import Order, Remaining, heaviest
from .parallel import check_wrapped
from .rehearsal import Attempt, rehearse
from .results import Result, count_broken
from .resume import clear_up
from .sharded import read_optimizer, write_optimizer


@dataclass
class Progress:
    """What the steps so far have come to."""

    steps: int = 0
    tokens: int = 0
    """Tokens that are not padding, over all processes."""
    loss: float = math.nan
    """Of the last step."""
    highest_learning_rate: float = 0.0
    """Zero where no step so far could move anything."""
    seconds: float = 0.0
    """From the first step's start to the last one's end, without what lies between two launches."""

    def tokens_per_second(self) -> float:
        """Tokens that are not padding a second."""
        return self.tokens / max(self.seconds, 1e-9)


class TokenTrainer(Trainer):
    """Trains on rows of token ids.

    The loss of a step is the sum over the trained tokens of its global batch, divided by their number: the same for
    any split into processes, micro batches and packs. A batch of the data loader is all that this process does in one
    step, a list of micro batches, since packed rows take another number of packs in each.
    """

    def __init__(
        self,
        result: Result,
        order: Order,
        events: Events,
        stop_asked: Callable[[], bool],
        checkpoints: Checkpoints,
        *,
        start: Sealed | None,
        made_with: dict[str, Any],
        parallelism: str,
        packed: bool,
        rehearses: bool,
        **kwargs: Any,
    ) -> None:
        """`start`: the checkpoint to go on from; `made_with`: what checkpoints have to say of the lock; `packed`: rows
        are laid end to end; `rehearses`: the heaviest micro batches are tried out first.
        """
        super().__init__(model=result.model, train_dataset=order, **kwargs)
        self.remove_callback(PrinterCallback)
        if result.shared:  # made ready, autocast included, but not wrapped once more by accelerate
            self.accelerator.prepare_model(self.model, evaluation_mode=True)
        self.progress = Progress() if start is None else Progress(**start.facts["progress"])
        self.stopping = False
        self._result = result
        self._order = order
        self._events = events
        self._checkpoints = checkpoints
        self._start = start
        self._made_with = made_with
        self._evaluated: tuple[int, float] | None = None
        self._clock = 0.0
        self._bursts = Bursts()
        self._stop_asked = stop_asked
        self._parallelism = parallelism
        self._packed = packed
        self._rehearses = rehearses

    def get_train_dataloader(self) -> DataLoader:
        """The steps in our order that are left; one pass is the whole training."""
        steps = Remaining(0 if self._start is None else self._start.step, len(self._order))
        # A generator of its own: a loader draws a seed at its start, and would move the random numbers of dropout.
        own = torch.Generator()
        return DataLoader(self._order, batch_size=None, sampler=steps, collate_fn=self.arrange, generator=own)

    def begin(self) -> None:
        """Try out what would fail later, put back what the checkpoint has beside the weights, and start the clock.

        Raises Failure (resume-mismatch) where the rows would come in another order than before the checkpoint,
        (not-parallel) where the model is not wrapped as it has to be.
        """
        check_wrapped(self.model_wrapped, self._parallelism, self.args.world_size)
        self.warm_up()
        start = self._start
        if start is not None:
            if self._order.digest(start.step - 1) != start.facts["order_digest"]:
                raise Failure("resume-mismatch", f"the rows come in another order than those of {start.path.name}")
            self._put_states_back(start.path)  # not before the trial, which empties those of the optimizer
            super()._load_scaler(str(start.path))
        self._wait()
        if self.is_world_process_zero():
            clear_up(self._checkpoints.folder, 0 if start is None else start.step)
        self._clock = time.monotonic()

    def arrange(self, batches: list[list[int]]) -> list[dict[str, torch.Tensor]]:
        """The tensors of micro batches of these rows."""
        arrange = lay if self._packed else collate
        return [arrange([self._order.rows[row] for row in batch]) for batch in batches]

    def warm_up(self) -> None:
        """Try out what would fail later, on the model in its place and before the clock runs; changes nothing.

        Raises Failure where packed rows would see each other, or a batch that is to come does not fit.
        """
        if self._packed:
            check_apart(self.model)
        if not self._rehearses:
            return

        def train(batch: dict[str, torch.Tensor]) -> None:
            self.model.train()
            self.loss_sum(self.model, self._prepare_inputs(batch)).backward()

        training = [
            Attempt(f"the largest micro batch ({batch['input_ids'].numel()} tokens)", partial(train, batch))
            for batch in self.arrange(self._order.heaviest())
        ]
        evaluation = [
            Attempt(f"the largest evaluation batch ({batch['input_ids'].numel()} tokens)", partial(self._score, batch))
            for batch in map(self._padded, heaviest(self._evaluation_batches(), self.eval_dataset))
        ]
        rehearse(self.model, self.optimizer.optimizer, training, evaluation)

    def training_step(
        self, model: torch.nn.Module, inputs: list[dict[str, torch.Tensor]], num_items_in_batch: object = None
    ) -> torch.Tensor:
        """Make the gradient of one step, micro batch by micro batch, and sum its loss over processes.

        Raises Failure (nan) before the optimizer moves anything, and where the loss does not depend on a weight.
        """
        model.train()
        first = 0 if self._start is None else self._start.step
        if self._start is not None and self.state.global_step == first:
            super()._load_rng_state(str(self._start.path))  # the last thing before the first number is drawn
        trained = int(self._order.rows.trained[self._order.of_step(self.state.global_step)].sum())
        total = torch.zeros((), dtype=torch.float64)
        for number, batch in enumerate(inputs, 1):
            # Gradients go over to the other processes once, with the last micro batch; shares of them every time, since
            # whole ones would have to be kept till then.
            with nullcontext() if number == len(inputs) else self.accelerator.no_sync(model):
                part = self.loss_sum(model, self._prepare_inputs(batch)) / trained
                # Gradients are averaged over processes, so each scales its part of the sum by their number.
                self.accelerator.backward(part * self.args.world_size)
            total += part.detach().double().cpu()
            if number == 1 and self.state.global_step == first:
                check_reached(self.model)
        self._close_step(total)
        return total.to(self.args.device)

    def loss_sum(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the cross entropy (nats) over the trained tokens of a micro batch."""
        return loss_sum(model, self._result.head, inputs)

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Loss over the evaluation rows: sum over their trained tokens by their number."""
        total = torch.zeros((), dtype=torch.float64)
        batches = self._evaluation_batches()
        # Blanks, so that every process has as many: a layer that is shared out is gathered by all of them together.
        batches += [[len(self.eval_dataset)]] * (-len(batches) % self.args.world_size)
        for rows in batches[self.args.process_index :: self.args.world_size]:
            total += self._score(self._padded(rows))
        loss = self._sum_over_processes(total)[0] / int(self.eval_dataset.trained.sum())
        if math.isfinite(loss):  # else it is not comparable with any other
            self._evaluated = (self.state.global_step, loss)
        self._events.write("evaluation", self.state.global_step, loss=loss)
        metrics = {"eval_loss": loss}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _evaluation_batches(self) -> list[list[int]]:
        """The evaluation rows of each batch over all processes."""
        count, size = len(self.eval_dataset or ()), self.args.per_device_eval_batch_size
        return [list(range(first, min(first + size, count))) for first in range(0, count, size)]

    def _padded(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """The tensors of an evaluation batch."""
        return collate([self.eval_dataset[row] for row in rows])

    def _score(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Loss of an evaluation batch, summed over its trained tokens."""
        self.model.eval()
        with torch.no_grad():
            return self.loss_sum(self.model, self._prepare_inputs(batch)).double().cpu()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Turn the Trainer's log of a step into an event.

        Raises Failure (nan) where the gradient was not finite; under float16 the scaler has skipped such a step.
        """
        if "grad_norm" not in logs:
            return
        step, norm = self.state.global_step, float(logs["grad_norm"])
        if not math.isfinite(norm) and not self.args.fp16:
            raise Failure("nan", f"the gradient norm of step {step} is {norm}")
        rows = self._order.of_step(step - 1)
        tokens = int(self._order.rows.lengths[rows].sum())
        now = time.monotonic()
        seconds = now - self._clock
        self._clock = now
        self.progress.seconds += seconds
        self.progress.steps = step
        self.progress.tokens += tokens
        rate = float(logs["learning_rate"])
        self.progress.highest_learning_rate = max(self.progress.highest_learning_rate, rate)
        self._events.write(
            "step",
            step,
            loss=self.progress.loss,
            learning_rate=rate,
            grad_norm=norm,
            trained_tokens=int(self._order.rows.trained[rows].sum()),
            tokens=tokens,
            tokens_per_second=tokens / max(seconds, 1e-9),
            batch_digest=self._order.rows.batch_digest(rows),
            epoch=step / self._order.steps_per_epoch,
            memory_bytes=memory_bytes(),
        )
        if (usual := self._bursts.begins(norm)) is not None:
            text = f"the gradient bursts: its norm is {norm:.3g} where {usual:.3g} is usual"
            self._events.write("warning", step, code="gradient-burst", text=text)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the trained weights for a checkpoint."""
        if self.args.should_save or self._result.shared:
            self._result.write_checkpoint(Path(output_dir or self.args.output_dir))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """A state that is shared out is written by every process."""
        if not self._result.shared:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        write_optimizer(Path(output_dir), self.model, self.optimizer.optimizer)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _save_rng_state(self, output_dir: str) -> None:
        """The random numbers of every process, all written by the first: others may have another disk."""
        if self.args.world_size == 1:
            super()._save_rng_state(output_dir)
            return
        with tempfile.TemporaryDirectory() as own:
            super()._save_rng_state(own)
            mine = [(path.name, path.read_bytes()) for path in Path(own).iterdir()]
        first = self.is_world_process_zero()
        everyone: list[list[tuple[str, bytes]]] = [[]] * self.args.world_size
        torch.distributed.gather_object(mine, everyone if first else None)
        for name, content in (file for files in everyone for file in files):
            (Path(output_dir) / name).write_bytes(content)

    def _put_states_back(self, folder: Path) -> None:
        """Optimizer and scheduler, as they were saved.

        They are read by way of the CPU: transformers reads them onto the device, which on a GPU would hold them twice,
        and which torch does not know by the name of a process's CPU.
        """
        if self._result.shared:
            read_optimizer(folder, self.model, self.optimizer.optimizer)
        else:
            states = torch.load(folder / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
            self.optimizer.load_state_dict(states)
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER_NAME, weights_only=True))

    def _get_output_dir(self, trial: object) -> str:
        """Where transformers lays the parts of a checkpoint."""
        return str(self._checkpoints.part)

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        """Let transformers lay its parts, wait for those of every process, and seal them.

        A checkpoint that a stop makes off its turn has no evaluation: another one could be the best for it.

        Raises Failure (nan) where weights are no numbers: such a checkpoint would take the place of a good one.
        """
        step, first = self.state.global_step, self.is_world_process_zero()
        if broken := self._sum_over_processes(torch.tensor(float(count_broken(self.model))))[0]:
            raise Failure("nan", f"{broken:.0f} weights hold values that are not finite after step {step}")
        with self._checkpoints.gathering(first=first):
            super()._save_checkpoint(model, trial)
            self._wait()
            if not first:
                return
            in_turn = step % self.args.save_steps == 0 or step >= self.args.max_steps
            evaluated = self._evaluated is not None and self._evaluated[0] == step
            self._checkpoints.seal(
                f"{PREFIX}{step}",
                step,
                self._evaluated[1] if evaluated and in_turn else None,
                epoch=(step - 1) // self._order.steps_per_epoch,
                order_digest=self._order.digest(step - 1),
                progress=asdict(self.progress),
                lock=self._made_with,
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """The trained weights; everything else is put back by `begin`."""
        self._result.read_checkpoint(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Left to `begin`."""

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Left to `begin`."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Left to the first step."""

    def _wait(self) -> None:
        """Wait until every process is here."""
        if self.args.world_size > 1:
            torch.distributed.barrier()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: it would walk over all parameters at every micro batch."""
        return 0

    def _close_step(self, part: torch.Tensor) -> None:
        loss, stops = self._sum_over_processes(part, torch.tensor(float(self._stop_asked())))
        self.stopping = stops > 0
        self.progress.loss = loss
        if not math.isfinite(loss):
            raise Failure("nan", f"the loss of step {self.state.global_step + 1} is {loss}")

    def _sum_over_processes(self, *values: torch.Tensor) -> list[float]:
        totals = torch.stack([value.double() for value in values]).to(self.args.device)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(totals)
        return totals.tolist()


class Steps(TrainerCallback):
    """Begins the training, and ends it early: after `stop_after` steps, or when a stop was asked for."""

    def __init__(self, stop_after: int | None) -> None:
        self._stop_after = stop_after
        self.trainer: TokenTrainer | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Make all ready."""
        self.trainer.begin()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Save and end where a stop was asked for; end where enough steps are done."""
        if self.trainer.stopping:
            control.should_save = True
            control.should_training_stop = True
        elif self._stop_after is not None and state.global_step >= self._stop_after:
            control.should_training_stop = True
