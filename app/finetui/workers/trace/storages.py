"""How many bytes of storage are alive, by part and by moment of a step."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits")


@dataclass(frozen=True)
class Peak:
    """The most that was alive at once, in bytes."""

    total: int
    parts: dict[str, int]


class Storages(TorchDispatchMode):
    """While it is active, counts every storage of one device that an operation makes, until nothing refers to it.

    A storage counts once, however many views it has; it belongs to the part in force when it was made, or to the
    logits where its last dimension is `vocab`.
    """

    def __init__(self, device: str, vocab: int) -> None:
        super().__init__()
        self.part = "activations"
        """What new storages belong to."""
        self.peaks: dict[str, Peak] = {}
        """By moment."""
        self._device = device
        self._vocab = vocab
        self._alive: dict[int, tuple[weakref.ref[torch.UntypedStorage], int, str]] = {}
        self._bytes: Counter[str] = Counter()
        self._total = 0
        self._moment = ""

    def enter(self, moment: str) -> None:
        """Go on to another moment of the step; one that comes again keeps its higher peak."""
        self._moment = moment
        self._note()

    def adopt(self, tensor: torch.Tensor, part: str) -> None:
        """Count a tensor's storage as this part, whether it is known already or not."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            known, size, before = self._alive[key]
            self._bytes[before] -= size
            self._bytes[part] += size
            self._alive[key] = (known, size, part)
            return
        size = storage.nbytes()
        self._alive[key] = (weakref.ref(storage, lambda _: self._free(key)), size, part)
        self._bytes[part] += size
        self._total += size
        if self._moment not in self.peaks or self._total > self.peaks[self._moment].total:
            self._note()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            if tensor.device.type == self._device and tensor.untyped_storage()._cdata not in self._alive:
                is_logits = tensor.dim() > 1 and tensor.shape[-1] == self._vocab and self.part == "activations"
                self.adopt(tensor, "logits" if is_logits else self.part)
        return made

    def _free(self, key: int) -> None:
        _, size, part = self._alive.pop(key)
        self._bytes[part] -= size
        self._total -= size

    def _note(self) -> None:
        if self._moment not in self.peaks or self._total > self.peaks[self._moment].total:
            self.peaks[self._moment] = Peak(self._total, {part: self._bytes[part] for part in PARTS})


def _tensors(made: Any) -> Iterator[torch.Tensor]:
    if isinstance(made, torch.Tensor):
        yield made
    elif isinstance(made, (tuple, list)):
        for one in made:
            yield from _tensors(one)
