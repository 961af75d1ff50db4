"""The heaviest batches tried out before the first step, so that memory runs out at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .failure import Failure, explain


@dataclass(frozen=True)
class Attempt:
    """A pass that will be made later."""

    batch: str
    """Which one it is made on, in words."""
    run: Callable[[], object]

    def make(self) -> None:
        """Make it now.

        Raises Failure (out-of-memory) naming the batch where it does not fit.
        """
        try:
            self.run()
        except (RuntimeError, MemoryError) as error:
            failure = explain(error)
            if failure.cause != "out-of-memory":
                raise
            raise Failure("out-of-memory", f"{self.batch} does not fit: {failure.detail}") from error


def rehearse(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Sequence[Attempt],
    evaluation: Sequence[Attempt],
) -> None:
    """Take a step on micro batches, and evaluate, as far as memory goes; change nothing.

    Those of `training` make gradients. The step before their last passes gives the optimizer its states, and the last
    passes find gradients already there: a later step of the training holds no more. Gradients of zero and a learning
    rate of zero leave every weight as it is, bit for bit; states, gradients and random numbers are put back.

    Raises Failure (out-of-memory) naming the batch that does not fit.
    """
    asked = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            for attempt in training:
                attempt.make()
            for group in optimizer.param_groups:
                group["lr"] = group["weight_decay"] = 0.0
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.zero_()
            optimizer.step()
            for attempt in training:
                attempt.make()
            model.zero_grad(set_to_none=True)
            for attempt in evaluation:
                attempt.make()
    finally:
        for group, (rate, decay) in zip(optimizer.param_groups, asked, strict=True):
            group["lr"], group["weight_decay"] = rate, decay
        optimizer.state.clear()
        model.zero_grad(set_to_none=True)
