"""Base + adapter against the merged model, on the same rows of ids: do they say the same?

One model is in memory at a time; the logits of the one before wait in a file.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetui.core.worker_io import progress, serve
from finetui.workers.train import quantised
from finetui.workers.train.failure import Failure

_SAMPLE_TOKENS = 16


def compare(request: dict[str, Any]) -> dict[str, Any]:
    """Compare on `rows` (lists of ids), computing in `dtype`; `scratch` is a folder for the logits.

    The result has `loads_offline` with `why_not`, `kl` (mean over positions of KL(base + adapter ‖ merged), in nats),
    `adapter_kl` (of KL(base + adapter ‖ base): what the adapter has changed), `top1_agreement` (share of positions with
    the same most likely token), `max_logit_difference` and `mean_logit_difference`, `positions`, and `sample`, some
    tokens that the merged model generates (None without a tokenizer). `quantization` (None, or `type` and
    `double_quant`) says how the base was packed while the adapter was trained; then `quantized_base` has the same
    figures of packed base + adapter against merged.
    """
    rows = [torch.tensor([row]) for row in request["rows"]]
    dtype = getattr(torch, request["dtype"])
    progress(stage="load-base")
    model = _with_adapter(_load(request["base"], dtype), request)
    positions, vocabulary = sum(row.shape[1] for row in rows), model.get_output_embeddings().weight.shape[0]
    with tempfile.NamedTemporaryFile(dir=request["scratch"]) as kept:
        size = positions * vocabulary
        waiting = torch.from_file(kept.name, shared=True, size=size).view(positions, vocabulary)
        waiting_rows = waiting.split([row.shape[1] for row in rows])
        changed = 0.0
        for row, logits, place in zip(rows, _logits(model, rows, "compare-base"), waiting_rows, strict=True):
            place.copy_(logits)
            with model.disable_adapter():
                changed += _divergence(logits, _forward(model, row))
        del model
        gc.collect()
        progress(stage="load-merged")
        try:
            merged = _load(request["merged"], dtype)
            sample = _sample(merged, request["merged"], rows[0]) if request["has_tokenizer"] else None
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            return {"loads_offline": False, "why_not": f"{type(error).__name__}: {error}"}
        difference = Difference()
        for logits, place in zip(_logits(merged, rows, "compare-merged"), waiting_rows, strict=True):
            difference.add(place, logits)
            place.copy_(logits)
        del merged
        gc.collect()
        figures = {**difference.figures(), "adapter_kl": changed / positions, "positions": positions, "sample": sample}
        quantized = _against_quantized(request, rows, waiting_rows, dtype) if request.get("quantization") else None
        return {"loads_offline": True, "why_not": None, **figures, "quantized_base": quantized}


class Difference:
    """How far one model's logits are from another's, summed up over positions."""

    def __init__(self) -> None:
        self._positions = 0
        self._divergence = 0.0
        self._agreeing = 0
        self._largest = 0.0
        self._absolute = 0.0

    def add(self, expected: torch.Tensor, logits: torch.Tensor) -> None:
        """Count the logits of a row, [positions, vocabulary] each."""
        self._positions += len(logits)
        self._divergence += _divergence(expected, logits)
        self._agreeing += int((expected.argmax(-1) == logits.argmax(-1)).sum())
        apart = (expected - logits).abs()
        self._largest = max(self._largest, float(apart.max()))
        self._absolute += float(apart.mean(dim=-1, dtype=torch.float64).sum())

    def figures(self) -> dict[str, float]:
        """The means, and the largest difference."""
        return {
            "kl": self._divergence / self._positions,
            "top1_agreement": self._agreeing / self._positions,
            "max_logit_difference": self._largest,
            "mean_logit_difference": self._absolute / self._positions,
        }


def _against_quantized(
    request: dict[str, Any], rows: list[torch.Tensor], merged: Sequence[torch.Tensor], dtype: torch.dtype
) -> dict[str, Any]:
    """Figures of packed base + adapter against the merged model's logits, with the `type` of packing.

    Where the base cannot be packed here, the figures are None, and `why_not` says why.
    """
    packing = request["quantization"]
    progress(stage="load-quantized")
    try:
        base = quantised.load(
            Path(request["base"]), quantised.Quantisation(**packing), dtype, "cpu", local_files_only=True
        )
    except (Failure, ImportError, RuntimeError, ValueError) as failure:
        nothing = dict.fromkeys(("kl", "top1_agreement", "max_logit_difference", "mean_logit_difference"))
        return {"type": packing["type"], **nothing, "why_not": str(failure)}
    model, difference = _with_adapter(base, request), Difference()
    for logits, place in zip(_logits(model, rows, "compare-quantized"), merged, strict=True):
        difference.add(logits, place)
    return {"type": packing["type"], **difference.figures(), "why_not": None}


def _with_adapter(base: torch.nn.Module, request: dict[str, Any]) -> PeftModel:
    return PeftModel.from_pretrained(base, request["adapter"]).eval()


def _load(folder: str, dtype: torch.dtype) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


@torch.inference_mode()
def _forward(model: torch.nn.Module, row: torch.Tensor) -> torch.Tensor:
    """The logits of a row [1, positions], as [positions, vocabulary] in float32."""
    return model(input_ids=row, use_cache=False).logits[0].float()


def _divergence(expected: torch.Tensor, logits: torch.Tensor) -> float:
    """Sum over positions of KL(expected ‖ logits) in nats, never below 0."""
    p, q = expected.double().log_softmax(-1), logits.double().log_softmax(-1)
    return max(0.0, float((p.exp() * (p - q)).sum()))


def _logits(model: torch.nn.Module, rows: list[torch.Tensor], stage: str) -> Iterator[torch.Tensor]:
    """The logits of each row, one after another."""
    for done, row in enumerate(rows, start=1):
        yield _forward(model, row)
        progress(stage=stage, done=done, total=len(rows))


@torch.inference_mode()
def _sample(model: Any, folder: str, prompt: torch.Tensor) -> str:
    """What the merged model, served as it lies there, goes on to say after a prompt."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=_SAMPLE_TOKENS, do_sample=False)
    return tokenizer.decode(ids[0, prompt.shape[1] :])


if __name__ == "__main__":
    serve(compare)
