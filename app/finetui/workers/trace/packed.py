"""Linear layers with weights packed into 4 or 8 bits, and their adapters: the memory of bitsandbytes and peft."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners import lora
from torch.nn.functional import linear

_BLOCK = 64
"""Weights that share a scale."""
_SCALES = 256
"""Scales that share one, where they are quantised too."""


class Packed(torch.nn.Module):
    """In place of a linear layer; `quantization` is nf4, fp4 or int8.

    `casts` says whether autocast of a GPU, which peft looks for, turns an adapter's input into the type of computation.
    """

    def __init__(
        self, layer: torch.nn.Linear, quantization: str, double_quant: bool, dtype: torch.dtype, casts: bool
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype, self.casts = dtype, casts
        self.in_8_bits = quantization == "int8"
        weights = layer.weight.numel()
        scales = layer.out_features if self.in_8_bits else weights // _BLOCK
        self._hold("bits", weights if self.in_8_bits else weights // 2, torch.uint8)
        nested = double_quant and not self.in_8_bits
        self._hold("scales", scales, torch.uint8 if nested else torch.float32)
        if nested:
            self._hold("scales_of_scales", -(-scales // _SCALES), torch.float32)
        self.bias = layer.bias

    @property
    def weight(self) -> torch.Tensor:
        """Unpacked, for as long as it is needed."""
        return torch.empty(self.out_features, self.in_features, dtype=self.dtype, device="meta")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out] in the type of `x`."""
        return _Product.apply(x.to(self.dtype), self).to(x.dtype)

    def _hold(self, name: str, count: int, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.empty(count, dtype=dtype, device="meta"))


class _Product(torch.autograd.Function):
    """Unpacks in both directions, and keeps no unpacked weight between them."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Packed) -> torch.Tensor:
        ctx.layer = layer
        if not layer.in_8_bits:
            return linear(x, layer.weight, layer.bias)
        ctx.x = x  # bitsandbytes holds it, though nothing needs it
        halved = x.to(torch.float16)
        rounded = torch.empty_like(halved, dtype=torch.int8)
        del halved
        product = linear(rounded, torch.empty_like(layer.weight, dtype=torch.int8)).to(torch.int32)
        return product.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad @ ctx.layer.weight, None


class PackedLora(lora.Linear):
    """A packed layer with its adapter: peft's arithmetic for bitsandbytes' layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out]."""
        base: Packed = self.base_layer
        result = base(x)
        result = result if base.in_8_bits else result.clone()
        name = self.active_adapters[0]
        kept = result.dtype
        x = x if base.casts else self._cast_input_dtype(x, self.lora_A[name].weight.dtype)
        if variant := self.lora_variant.get(name):
            return variant.forward(self, active_adapter=name, x=x, result=result).to(kept)
        made = self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x))) * self.scaling[name]
        return result + (made if base.casts else made.to(kept))
