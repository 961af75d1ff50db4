"""FSDP2: every process holds a share of each weight, and a layer is whole only while it is its turn."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from .failure import Failure
from .machine import dtype, on_cuda
from .results import Result
from .settings import Knobs

WEIGHTS, OPTIMIZER = "weights", "optimizer"
"""Folders of a checkpoint, each with a file of every process."""


class Shards:
    """Another result, shared out: its checkpoints are written and read by all processes together."""

    shared = True

    def __init__(self, whole: Result, knobs: Knobs, world_size: int) -> None:
        self.model = whole.model
        self.head = whole.head
        self.counts = whole.counts
        self._whole = whole
        shard(self.model, knobs, world_size)

    def write_checkpoint(self, folder: Path) -> None:
        """Each process its share of the trained weights, exactly as they are."""
        checkpoint.save({WEIGHTS: _trained(self.model)}, checkpoint_id=folder / WEIGHTS)

    def read_checkpoint(self, folder: Path) -> None:
        """Put them back."""
        checkpoint.load({WEIGHTS: _trained(self.model)}, checkpoint_id=folder / WEIGHTS)

    def values(self) -> dict[str, torch.Tensor]:
        """The trained weights whole and on the CPU, one after another, for the first process; the others get none.

        A weight that has two names is one tensor under both.
        """
        first, whole = torch.distributed.get_rank() == 0, {}
        made: dict[int, torch.Tensor] = {}
        self.model.reshard()
        for name, weight in self.model.named_parameters(remove_duplicate=False):
            if not weight.requires_grad:
                continue
            if id(weight) not in made:
                gathered = weight.detach().full_tensor()
                made[id(weight)] = gathered.cpu() if first else torch.empty(0)
            if first:
                whole[name] = made[id(weight)]
        return whole

    def save(self, values: dict[str, torch.Tensor], folder: Path, *, must_move: bool) -> dict[str, str]:
        """As the result is saved that was shared out."""
        return self._whole.save(values, folder, must_move=must_move)


def shard(model: torch.nn.Module, knobs: Knobs, world_size: int) -> None:
    """Share out every weight: each layer for itself, and what is left (embedding, output, last norm) together.

    An adapter stays in float32 and is computed with under autocast, as in one process. Weights of full fine-tuning
    that are kept in float32 are gathered in `dtype`; their gradients are summed in float32.
    """
    mesh = init_device_mesh("cuda" if on_cuda() else "cpu", (world_size,))
    policy = MixedPrecisionPolicy()
    if knobs.master_weights is not None and knobs.dtype != "float32":
        policy = MixedPrecisionPolicy(
            param_dtype=dtype(knobs.dtype), reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    _keep_scales(model)
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def write_optimizer(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Each process its share of the optimizer's state."""
    model.reshard()
    checkpoint.save({OPTIMIZER: get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder / OPTIMIZER)


def read_optimizer(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put it back."""
    model.reshard()
    state = {OPTIMIZER: get_optimizer_state_dict(model, optimizer)}
    checkpoint.load(state, checkpoint_id=folder / OPTIMIZER)
    set_optimizer_state_dict(model, optimizer, state[OPTIMIZER])


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that a model repeats: what transformers says must not be split, wherever it stands.

    Raises Failure where there is none: all weights would be gathered at once.
    """
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    found = [module for module in model.modules() if type(module).__name__ in names]
    if not found:
        raise Failure("error", f"{type(model).__name__} does not say what its layers are; parallelism=ddp needs none")
    return found


def _keep_scales(model: torch.nn.Module) -> None:
    """Let layers in 4 bits remember the scales of their weights, which their shares do not carry."""
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.quant_state = module.weight.quant_state


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """This process's shares of the trained weights; after an evaluation, embedding and output are still whole."""
    model.reshard()
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
