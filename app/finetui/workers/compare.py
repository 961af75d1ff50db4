"""Base + adapter against the merged model, on the same rows of ids: do they say the same?

One model is in memory at a time; the logits of the first wait in a file.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetui.core.worker_io import progress, serve

_SAMPLE_TOKENS = 16


def compare(request: dict[str, Any]) -> dict[str, Any]:
    """Compare on `rows` (lists of ids), computing in `dtype`; `scratch` is a folder for the logits.

    The result has `loads_offline` with `why_not`, `kl` (mean over positions of KL(base + adapter ‖ merged), in nats),
    `adapter_kl` (of KL(base + adapter ‖ base): what the adapter has changed), `top1_agreement` (share of positions with
    the same most likely token), `max_logit_difference`, `positions`, and `sample`, some tokens that the merged model
    generates (None without a tokenizer).
    """
    rows = [torch.tensor([row]) for row in request["rows"]]
    dtype = getattr(torch, request["dtype"])
    progress(stage="load-base")
    model = PeftModel.from_pretrained(_load(request["base"], dtype), request["adapter"]).eval()
    positions, vocabulary = sum(row.shape[1] for row in rows), model.get_output_embeddings().weight.shape[0]
    with tempfile.NamedTemporaryFile(dir=request["scratch"]) as kept:
        shape = (positions, vocabulary)
        reference = torch.from_file(kept.name, shared=True, size=positions * vocabulary).view(shape)
        start, changed = 0, 0.0
        for row, logits in zip(rows, _logits(model, rows, "compare-base"), strict=True):
            reference[start : start + len(logits)] = logits
            start += len(logits)
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
        figures = _figures(reference, _logits(merged, rows, "compare-merged"))
        figures["adapter_kl"] = changed / positions
        return {"loads_offline": True, "why_not": None, "positions": positions, "sample": sample, **figures}


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


def _figures(reference: torch.Tensor, rows: Iterator[torch.Tensor]) -> dict[str, float]:
    divergence, agreeing, largest, start = 0.0, 0, 0.0, 0
    for logits in rows:
        expected = reference[start : start + len(logits)]
        start += len(logits)
        divergence += _divergence(expected, logits)
        agreeing += int((expected.argmax(-1) == logits.argmax(-1)).sum())
        largest = max(largest, float((expected - logits).abs().max()))
    return {"kl": divergence / start, "top1_agreement": agreeing / start, "max_logit_difference": largest}


@torch.inference_mode()
def _sample(model: Any, folder: str, prompt: torch.Tensor) -> str:
    """What the merged model, served as it lies there, goes on to say after a prompt."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=_SAMPLE_TOKENS, do_sample=False)
    return tokenizer.decode(ids[0, prompt.shape[1] :])


if __name__ == "__main__":
    serve(compare)
