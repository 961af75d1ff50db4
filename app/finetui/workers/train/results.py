"""What a training makes, by its method: what is trained, kept in checkpoints, put back, checked and saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from . import adapter, full
from .failure import Failure
from .settings import Lock


class Result(Protocol):
    """A model in training, and what of it is the result."""

    model: torch.nn.Module
    """What is trained, wrapped in nothing of torch's or accelerate's."""
    head: torch.nn.Module
    """Its layer that makes logits."""

    counts: tuple[int, int]
    """How many weights the base model has, and how many are trained."""
    shared: bool
    """Whether every process holds a share: all of them write and read checkpoints together."""

    def write_checkpoint(self, folder: Path) -> None:
        """Keep the trained weights exactly as they are."""

    def read_checkpoint(self, folder: Path) -> None:
        """Put them back."""

    def values(self) -> dict[str, torch.Tensor]:
        """The trained weights, whole, by their names in `model`; every process has to ask for them."""

    def save(self, values: dict[str, torch.Tensor], folder: Path, *, must_move: bool) -> dict[str, str]:
        """Check and write the result, of such `values`, into an empty folder, synced to disk.

        Gives each file's SHA-256 by its name.

        Raises Failure (nan) where a value is not finite, (adapter-never-moved) where nothing was trained and
        `must_move` says that something should have been.
        """


class Adapter:
    """LoRA and its kin: the base model stays as it is."""

    shared = False

    def __init__(self, base: PreTrainedModel, lock: Lock) -> None:
        self.model: PeftModel = adapter.attach(base, lock.knobs, lock.model["name"])
        self.head = self.model.get_base_model().get_output_embeddings()
        self._before = adapter.tensors(self.model)
        # The adapter is not counted as the base's; packed weights count as what they stand for.
        trainable, total = self.model.get_nb_trainable_parameters()
        self.counts = total - trainable, trainable

    def write_checkpoint(self, folder: Path) -> None:
        """The adapter, as it is saved at the end."""
        adapter.save(self.model, folder)

    def read_checkpoint(self, folder: Path) -> None:
        """Put its tensors back."""
        set_peft_model_state_dict(self.model, load_file(folder / adapter.WEIGHTS_NAME))

    def values(self) -> dict[str, torch.Tensor]:
        """The adapter's tensors are those of the model that are trained."""
        return full.trained_weights(self.model)

    def save(self, values: dict[str, torch.Tensor], folder: Path, *, must_move: bool) -> dict[str, str]:
        """adapter_config.json and adapter_model.safetensors."""
        after = adapter.tensors(self.model, values)
        adapter.check_finite(after)
        if must_move:
            adapter.check_moved(self._before, after)
        return adapter.save(self.model, folder, values)


class Weights:
    """Full fine-tuning: the result is a whole model."""

    shared = False

    def __init__(self, base: PreTrainedModel, folder: Path, lock: Lock) -> None:
        self.model = full.release(base)
        self.head = base.get_output_embeddings()
        self._folder = folder
        self._template = lock.template
        self._known = sorted(lock.model["files"])
        self._names = [name for name in self._known if name.endswith(".safetensors")]
        weights = list(self.model.parameters())  # tied ones once
        trained = sum(weight.numel() for weight in weights if weight.requires_grad)
        self.counts = sum(map(torch.numel, weights)), trained

    def write_checkpoint(self, folder: Path) -> None:
        """The trained weights in the type that they are trained in."""
        full.write_checkpoint(self.model, folder)

    def read_checkpoint(self, folder: Path) -> None:
        """Put them back."""
        full.read_checkpoint(self.model, folder)

    def values(self) -> dict[str, torch.Tensor]:
        """As they lie in the model, under every name that they have."""
        return full.trained_weights(self.model, every_name=True)

    def save(self, values: dict[str, torch.Tensor], folder: Path, *, must_move: bool) -> dict[str, str]:
        """A model folder like the base's: its weight files in their types, and all that lay beside them.

        Digests are given of what the lock knows or the training decides: another copy of the same base may have
        another README.
        """
        full.check_finite(values)
        folder.mkdir(parents=True, exist_ok=True)
        if not full.write_model(self.model, values, self._folder, self._names, folder) and must_move:
            raise Failure("adapter-never-moved", "every weight of the result is as it began")
        full.carry(self._folder, self._names, self._template, folder)
        digests = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            name = path.relative_to(folder).as_posix()
            if name in (*self._known, *full.WRITTEN):
                digests[name] = adapter.sha256(path)
        return digests


def count_broken(model: torch.nn.Module) -> int:
    """How many of the trained weights, or of this process's shares of them, hold values that are not finite.

    By their least and greatest values, since a mask would take memory that a training may not have.
    """
    trained = (weight.detach() for weight in model.parameters() if weight.requires_grad)
    shares = (weight.to_local() if isinstance(weight, DTensor) else weight for weight in trained)
    return sum(not torch.stack(torch.aminmax(share)).isfinite().all() for share in shares if share.numel())
