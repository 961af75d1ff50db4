"""The heaviest micro batches tried out before the first step, so that memory runs out at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .failure import Failure, explain


def rehearse(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    backward: Callable[[int], None],
    tokens: Sequence[int],
) -> None:
    """Take a step on each micro batch of `tokens` (how many each has), as far as memory goes, and change nothing.

    `backward` makes the gradient of one of them. The step before the last pass gives the optimizer its states, and
    the last pass finds gradients already there: a later step of the training holds no more. Gradients of zero and a
    learning rate of zero leave every weight as it is, bit for bit; states, gradients and random numbers are put back.

    Raises Failure (out-of-memory) naming the micro batch that does not fit.
    """
    asked = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            for number in range(len(tokens)):
                _try(backward, number, tokens)
            for group in optimizer.param_groups:
                group["lr"] = group["weight_decay"] = 0.0
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.zero_()
            optimizer.step()
            for number in range(len(tokens)):
                _try(backward, number, tokens)
    finally:
        for group, (rate, decay) in zip(optimizer.param_groups, asked, strict=True):
            group["lr"], group["weight_decay"] = rate, decay
        optimizer.state.clear()
        model.zero_grad(set_to_none=True)


def _try(backward: Callable[[int], None], number: int, tokens: Sequence[int]) -> None:
    try:
        backward(number)
    except (RuntimeError, MemoryError) as error:
        failure = explain(error)
        if failure.cause != "out-of-memory":
            raise
        detail = f"the largest micro batch ({tokens[number]} tokens) does not fit: {failure.detail}"
        raise Failure("out-of-memory", detail) from error
