"""Which rows each step trains, and how they are shared out: the same global batches for any split of the work."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

from .data import Rows
from .failure import Failure
from .settings import Knobs


class Order:
    """The rows of every optimizer step, and this process's micro batches of them.

    An epoch's order is that of the SHA-256 of seed, epoch and row number: no library's random numbers decide it. The
    last step of an epoch takes what is left. Within a step the longest rows come first, so that little is padded.
    As a batch sampler it yields one list of rows for each micro batch of this process, over all steps in turn.
    """

    def __init__(self, rows: Rows, knobs: Knobs, steps: int, world_size: int, rank: int) -> None:
        self.rows = rows
        self.steps = steps
        self.rows_per_step = knobs.rows_per_step
        self.steps_per_epoch = math.ceil(len(rows) / self.rows_per_step)
        self._knobs = knobs
        self._world_size = world_size
        self._rank = rank
        self._epoch: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.steps * self._knobs.gradient_accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        size = self._knobs.per_device_train_batch_size
        for step in range(self.steps):
            rows = self.of_step(step)
            for micro in range(self._knobs.gradient_accumulation_steps):
                first = (micro * self._world_size + self._rank) * size
                yield rows[first : first + size] or [len(self.rows)]

    def of_step(self, step: int) -> list[int]:
        """The rows of one optimizer step (from 0) over all processes, longest first."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, shuffled(len(self.rows), self._knobs.seed, epoch))
        rows = self._epoch[1][place * self.rows_per_step : (place + 1) * self.rows_per_step]
        return sorted(rows, key=lambda row: -self.rows.lengths[row])


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The row numbers 0 to count - 1 in the order of one epoch (from 0)."""
    return sorted(range(count), key=lambda row: hashlib.sha256(f"{seed}:{epoch}:{row}".encode()).digest())


def count_steps(rows: int, rows_per_step: int, knobs: Knobs) -> int:
    """Optimizer steps of the whole training: `max_steps` where it is set, else `num_train_epochs` over the rows."""
    if knobs.max_steps == 0:
        raise Failure("error", "max_steps is 0: nothing would be trained")
    if knobs.max_steps > 0:
        return knobs.max_steps
    return math.ceil(knobs.num_train_epochs * math.ceil(rows / rows_per_step))
