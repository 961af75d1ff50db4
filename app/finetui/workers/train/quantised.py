"""Frozen weights in 4 or 8 bits, by bitsandbytes: the linear layers of the language model, and nothing else."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from .failure import Failure
from .settings import Knobs


@dataclass(frozen=True)
class Quantisation:
    """How weights are packed."""

    type: str
    """nf4, fp4 or int8."""
    double_quant: bool = True
    """4 bits: whether the scales of the blocks are quantised too."""
    storage: str = "uint8"
    """4 bits: the type that the packed bits are stored as."""

    @classmethod
    def of(cls, knobs: Knobs) -> Self | None:
        """What the settings ask for; None for weights in the type of `dtype`.

        Raises Failure where they ask for 4 and 8 bits at once.
        """
        if knobs.load_in_4bit and knobs.load_in_8bit:
            raise Failure("error", "load_in_4bit and load_in_8bit are both true; weights are packed in one way")
        if knobs.load_in_8bit:
            return cls("int8")
        if knobs.load_in_4bit:
            return cls(knobs.bnb_4bit_quant_type, knobs.bnb_4bit_use_double_quant, knobs.bnb_4bit_quant_storage)
        return None


def load(
    folder: Path, quantisation: Quantisation, dtype: torch.dtype, device: int | str, **options: Any
) -> PreTrainedModel:
    """Load a 16- or 32-bit checkpoint with its linear layers packed on a device: a GPU's number, or `cpu`.

    Everything else (embedding, norms, output, towers for pictures and sound) stays in `dtype`, which is computed in
    too. peft's preparation would cast it to float32; the norms compute in float32 by themselves, and checkpointing
    without reentry needs no gradient of its input, so there is nothing to prepare. Raises Failure where bitsandbytes
    is missing or the model has no linear layer to pack.
    """
    if find_spec("bitsandbytes") is None:
        need = "weights in 4 or 8 bits need the package bitsandbytes"
        raise Failure("error", f"{need}: {sys.executable} -m pip install 'bitsandbytes>=0.48'")
    packing = BitsAndBytesConfig(
        load_in_4bit=quantisation.type != "int8",
        load_in_8bit=quantisation.type == "int8",
        llm_int8_skip_modules=_exactly(unpacked_layers(folder)),
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_type="nf4" if quantisation.type == "int8" else quantisation.type,
        bnb_4bit_use_double_quant=quantisation.double_quant,
        bnb_4bit_quant_storage=quantisation.storage,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, quantization_config=packing, device_map={"": device}, **options
    )
    if not _settle(model):
        raise Failure("error", f"{type(model).__name__} has no linear layers that could be packed")
    return model


def unpacked_layers(folder: Path) -> list[str]:
    """Linear layers of a model that are not packed: its output, and all that is outside of the language model."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    inside = set(model.get_decoder().modules()) - {model.get_output_embeddings()}
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return [name for name, module in layers if module not in inside]


def _exactly(names: list[str]) -> list[str]:
    """Patterns for transformers that fit these names alone, and not all that begin or end alike."""
    return [f"{re.escape(name)}$" for name in names]


def _settle(model: PreTrainedModel) -> int:
    """Mend what bitsandbytes' layers do wrong in a training; gives how many there are.

    On CPUs with AVX512-BF16 it repacks 4-bit weights at the first forward pass of an evaluation, for good: from then
    on they are rounded further, and no gradient passes through them. On any CPU, DoRA makes 8-bit layers start again
    from weights that have no scales any more. And 8-bit layers keep their inputs for a gradient that frozen weights
    never get, checkpointing or not.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    packed = [module for module in model.modules() if isinstance(module, (Linear4bit, Linear8bitLt))]
    for module in packed:
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
        else:
            module.init_8bit_state()
            module.init_8bit_state = _do_nothing
            module.register_forward_hook(_forget_input)
    return len(packed)


def _do_nothing() -> None:
    pass


def _forget_input(_: torch.nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    node = output.grad_fn
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        node.A, node.tensors = None, (None, None, None)  # as two of bitsandbytes' functions call it
