"""What a device does that tensors without memory do not: autocast, and attention by fused kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

# torch's autocast lists (aten/src/ATen/autocast_mode.h), by the names under which functions and methods call them.
_LOWER = {
    "__matmul__", "__rmatmul__", "addbmm", "addmm", "baddbmm", "bmm", "conv1d", "conv2d", "conv3d", "einsum",
    "linear", "matmul", "mm", "scaled_dot_product_attention",
}  # fmt: skip
_FLOAT32 = {
    "__pow__", "__rdiv__", "__rpow__", "__rtruediv__", "exp", "expm1", "group_norm", "layer_norm", "log", "log10",
    "log1p", "log2", "norm", "pow", "reciprocal", "rsqrt", "softplus",
}  # fmt: skip
_FLOAT32_RESULT = {"cumprod", "cumsum", "log_softmax", "prod", "softmax", "sum"}
VARLEN = "finetui_varlen"


class Device(TorchFunctionMode):
    """Active for one forward pass: computes as autocast on `device` does, and lets attention keep what kernels keep.

    Leaves that autocast has cast stay until `clear`, as in torch until the outermost autocast ends.
    """

    def __init__(self, device: str, dtype: torch.dtype | None, packed: bool = False) -> None:
        super().__init__()
        self._device = device
        self._dtype = dtype
        self._packed = packed
        self._casts: dict[int, torch.Tensor] = {}

    def __exit__(self, *error: Any) -> None:
        self._casts.clear()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name == "__bool__":  # asked only of masks: whether all rows are whole, which packed ones are not
            return not self._packed
        if self._dtype is not None:
            args, kwargs = self._autocast(name, args, kwargs)
        on_cpu_with_dropout = self._device == "cpu" and _dropout(args, kwargs) > 0  # which no fused kernel of it has
        if name == "scaled_dot_product_attention" and not on_cpu_with_dropout:
            return _attention(*args, device=self._device, **kwargs)
        return func(*args, **kwargs)

    def _autocast(self, name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments as autocast hands them on; of a CPU's lists those are known that language models meet."""
        if name in _LOWER:
            return self._cast(args, self._dtype), {key: self._cast(value, self._dtype) for key, value in kwargs.items()}
        if self._device == "cuda" and name in _FLOAT32:
            return self._cast(args, torch.float32), kwargs
        result_only = self._device == "cuda" and name in _FLOAT32_RESULT and args[0].is_floating_point()
        if result_only and kwargs.get("dtype") is None:
            return args, {**kwargs, "dtype": torch.float32}
        return args, kwargs

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(self._cast(one, dtype) for one in value)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if dtype == torch.float32 or not (value.is_leaf and value.requires_grad):
            return value.to(dtype)
        if id(value) not in self._casts:
            self._casts[id(value)] = value.to(dtype)
        return self._casts[id(value)]


def _dropout(args: Any, kwargs: dict[str, Any]) -> float:
    return float(args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    device: str = "cuda",
) -> torch.Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = attn_mask.to(query.dtype)  # kernels add a mask to the scores
    return Fused.apply(query, key, value, attn_mask, device)


class Fused(torch.autograd.Function):
    """Attention of [rows, heads, tokens, features]: queries, keys, values, output and a sum a query are kept."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, device: str
    ) -> torch.Tensor:
        rows, heads, tokens, features = query.shape
        if mask is None and value.shape[-1] == features:
            out = torch.empty_like(query)  # laid out as the query is
        else:
            out = query.new_empty(rows, tokens, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty(rows, heads, tokens, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, sums)
        ctx.device = device
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, _, _, _ = ctx.saved_tensors
        scratch = []
        if ctx.device == "cuda":
            scratch.append(torch.empty_like(query, dtype=torch.float32))  # gradients of queries add up in float32
        made = [torch.empty_like(query)]
        for part in (key, value):
            if part.shape[1] == query.shape[1]:
                made.append(torch.empty_like(part))
                continue
            times = query.shape[1] // part.shape[1]
            scratch.append(part.new_empty(part.shape[0], part.shape[2], part.shape[1], times, part.shape[3]))
            made.append(torch.empty_like(part))
        return (*made, None, None)


def _flash(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    """Flash attention as transformers calls it: no mask, keys and values not repeated."""
    return Fused.apply(query, key, value, None, "cuda").transpose(1, 2), None


AttentionInterface.register(VARLEN, _flash)
AttentionMaskInterface.register(VARLEN, lambda *_, **__: None)
