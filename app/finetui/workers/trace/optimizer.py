"""Optimizers: torch's own where they can step without memory, the states alone where they cannot."""

from __future__ import annotations

import torch
from transformers.optimization import Adafactor

_SMALL = 4096
"""bitsandbytes keeps the states of a tensor with fewer weights in float32."""
_BLOCK = 256
# Bytes of state a weight of optimizers that step in their own kernels.
_STATES = {"adamw_torch_fused": None, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "paged_adamw_32bit": 8}


def make(name: str, parameters: list[torch.nn.Parameter], device: str) -> torch.optim.Optimizer:
    """The optimizer that transformers makes of the name."""
    if name == "adafactor":
        return Adafactor(parameters, scale_parameter=False, relative_step=False, lr=1e-4)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-4, foreach=device == "cuda")
    if name in _STATES:
        return _States(parameters, _STATES[name])
    return torch.optim.AdamW(parameters, lr=1e-4, foreach=device == "cuda")


class _States(torch.optim.Optimizer):
    """Two moments a weight, and nothing beside them while stepping."""

    def __init__(self, parameters: list[torch.nn.Parameter], width: int | None) -> None:
        self._width = width
        super().__init__(parameters, {"lr": 1e-4})

    def step(self, closure: object = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None and not self.state[parameter]:
                self.state[parameter] = {"moments": [self._moment(parameter), self._moment(parameter)]}

    def _moment(self, parameter: torch.nn.Parameter) -> list[torch.Tensor]:
        if self._width != 2 or parameter.numel() < _SMALL:
            kept = parameter.dtype if self._width is None else torch.float32
            return [torch.empty_like(parameter, dtype=kept, requires_grad=False)]
        scales = torch.empty(-(-parameter.numel() // _BLOCK), dtype=torch.float32, device=parameter.device)
        return [torch.empty_like(parameter, dtype=torch.uint8, requires_grad=False), scales]
