"""What a trainer does inside, noted while it trains: for settings whose effect is no figure of the run."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

FILE = "seen.json"
MEMORY = "PROBE_MEMORY"
"""Variable: how many bytes the process may take beyond those it begins with."""


def watch(out: Path) -> None:
    """Let the trainer of this process write OUT/seen.json, of its first micro batch and of what stands at its end.

    `kept`: bytes that autograd keeps of its forward pass; `sdpa`: calls of torch's attention from then on; `weights`,
    `trained` and `computed`: types of frozen and trained weights, and of what linear layers give; `states`: types of
    the optimizer's states; `optimizer`: its class.
    """
    if more := os.environ.get(MEMORY):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + int(more),) * 2)
    import torch
    from train.trainer import TokenTrainer

    seen: dict[str, Any] = {"kept": 0, "sdpa": 0}
    loss_sum, train, attend = (
        TokenTrainer.loss_sum,
        TokenTrainer.train,
        torch.nn.functional.scaled_dot_product_attention,
    )

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen["sdpa"] += 1
        return attend(*args, **kwargs)

    def watched(self: Any, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if seen["kept"]:
            return loss_sum(self, model, inputs)
        seen["sdpa"] = 0
        weights = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        kept: dict[int, torch.UntypedStorage] = {}
        computed: set[str] = set()

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage()._cdata not in weights:
                kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        def note(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            computed.add(str(output.dtype))

        linear = [module for name, module in model.named_modules() if name.endswith("gate_proj")]
        handles = [module.register_forward_hook(note) for module in linear]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss_sum(self, model, inputs)
        for handle in handles:
            handle.remove()
        seen["kept"] = sum(storage.nbytes() for storage in kept.values())
        seen["computed"] = sorted(computed)
        return loss

    def trained(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = train(self, *args, **kwargs)
        for name, wanted in (("weights", False), ("trained", True)):
            seen[name] = sorted({str(one.dtype) for one in self.model.parameters() if one.requires_grad is wanted})
        optimizer = self.optimizer.optimizer
        states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        seen["states"] = sorted({str(state.dtype) for state in states if state.numel() > 1})
        kinds = ["fused"] if optimizer.defaults.get("fused") else ["paged"] if getattr(optimizer, "is_paged", 0) else []
        seen["optimizer"] = " ".join([f"{type(optimizer).__module__}.{type(optimizer).__qualname__}", *kinds])
        (out / FILE).write_text(json.dumps(seen))
        return result

    TokenTrainer.loss_sum, TokenTrainer.train = watched, trained
    torch.nn.functional.scaled_dot_product_attention = counted
