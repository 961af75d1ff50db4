"""A fair sample of a stream of unknown length, drawn in one pass and bounded in rows and bytes."""

from __future__ import annotations

import random
from typing import Generic, TypeVar

Item = TypeVar("Item")
_SEED = 20240229


class Reservoir(Generic[Item]):
    """Keeps `size` of all that is offered, each with the same chance (Vitter's algorithm R), the same in every run.

    Where what is kept outgrows `most_bytes`, half of it is given up at random, and the rest is still a fair sample.
    """

    def __init__(self, size: int, most_bytes: int = 64 << 20) -> None:
        self.size = size
        self.offered = 0
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: list[tuple[int, int, Item]] = []
        self._chance = random.Random(_SEED)

    def offer(self, item: Item, size_bytes: int) -> None:
        """Keep an item, or not."""
        number = self.offered
        self.offered += 1
        place = number if number < self.size else int(self._chance.random() * self.offered)
        if place >= self.size:
            return
        if place < len(self._kept):
            self._bytes -= self._kept[place][1]
            self._kept[place] = number, size_bytes, item
        else:
            self._kept.append((number, size_bytes, item))
        self._bytes += size_bytes
        while self._bytes > self._most_bytes and self.size > 1:
            self._give_up_half()

    def items(self) -> list[Item]:
        """What was kept, in the order in which it was offered."""
        return [item for _, _, item in sorted(self._kept, key=lambda kept: kept[0])]

    def _give_up_half(self) -> None:
        self.size = max(1, len(self._kept) // 2)
        self._kept = self._chance.sample(self._kept, self.size)
        self._bytes = sum(size for _, size, _ in self._kept)
