"""Which rows each step trains, and how they are shared out: the same global batches for any split of the work."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence

from .data import Rows
from .failure import Failure
from .settings import Knobs


class Order:
    """The rows of every optimizer step, and this process's micro batches of them.

    An epoch's order is that of the SHA-256 of seed, epoch and row number: no library's random numbers decide it. The
    last step of an epoch takes what is left. Within a step the longest rows come first, so that little is padded.
    As a data set it holds for each step the micro batches of this process; packed, how many there are varies.
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
        return self.steps

    def __getitem__(self, step: int) -> list[list[int]]:
        """The rows of each micro batch of this process, in a step from 0."""
        return self.split(step)[self._rank :: self._world_size]

    def of_step(self, step: int) -> list[int]:
        """The rows of one optimizer step (from 0) over all processes, longest first."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, shuffled(len(self.rows), self._knobs.seed, epoch))
        rows = self._epoch[1][place * self.rows_per_step : (place + 1) * self.rows_per_step]
        return sorted(rows, key=lambda row: -self.rows.lengths[row])

    def split(self, step: int) -> list[list[int]]:
        """The rows of each micro batch or pack of a step over all processes, dealt out to them in turn.

        Blanks fill up, so that every process has as many.
        """
        rows, size = self.of_step(step), self._knobs.per_device_train_batch_size
        if self._knobs.packing:
            lengths = [int(self.rows.lengths[row]) for row in rows]
            parts = [[rows[place] for place in pack] for pack in pack(lengths, self._knobs.max_length * size)]
            count = math.ceil(len(parts) / self._world_size) * self._world_size
        else:
            parts = [rows[first : first + size] for first in range(0, len(rows), size)]
            count = self._knobs.gradient_accumulation_steps * self._world_size
        return parts + [[len(self.rows)]] * (count - len(parts))

    def digest(self, step: int) -> str:
        """SHA-256 of the order of the epoch that a step (from 0) is in."""
        self.of_step(step)
        return hashlib.sha256(" ".join(map(str, self._epoch[1])).encode()).hexdigest()

    def heaviest(self) -> list[list[int]]:
        """The micro batches of the whole training that need most memory."""
        batches = (batch for step in range(self.steps) for batch in self.split(step) if batch[0] < len(self.rows))
        return heaviest(batches, self.rows, packed=self._knobs.packing)


class Remaining:
    """The steps from `first` on; as many as all for who asks, since the Trainer tells the epoch by it."""

    def __init__(self, first: int, steps: int) -> None:
        self._steps = range(first, steps)

    def __len__(self) -> int:
        return self._steps.stop

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps)


def heaviest(batches: Iterable[list[int]], rows: Rows, *, packed: bool = False) -> list[list[int]]:
    """The batches that need most memory: the one of most tokens, padding included, and the one of most logits."""
    largest: tuple[int, list[int]] = (0, [])
    wordiest: tuple[int, list[int]] = (0, [])
    for batch in batches:
        lengths = rows.lengths[batch]
        largest = max(largest, (int(lengths.sum() if packed else lengths.max() * len(batch)), batch))
        wordiest = max(wordiest, (int(rows.trained[batch].sum()), batch))
    found = [largest[1]] if largest[1] == wordiest[1] else [largest[1], wordiest[1]]
    return [batch for batch in found if batch]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Places in `lengths` (longest first) grouped into packs of at most `capacity`, fullest pack first.

    Best-fit decreasing: each goes where the least room is left that takes it. With no length over `max_length` and a
    capacity of n × `max_length`, every pack but the last holds at least n of them, so packs are never more than micro
    batches of n rows would be.
    """
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, pack), the least room first
    for place, length in enumerate(lengths):
        fitting = bisect_left(rooms, (length, 0))
        if fitting == len(rooms):
            packs.append([])
            room, number = capacity, len(packs) - 1
        else:
            room, number = rooms.pop(fitting)
        packs[number].append(place)
        insort(rooms, (room - length, number))
    return [packs[number] for _, number in sorted(rooms)]


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
