"""The model and its adapter: loaded, attached, checked and saved."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from .failure import Failure
from .machine import dtype, on_cuda
from .quantised import Quantisation
from .quantised import load as load_quantised
from .settings import Knobs, Lock

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
_BLOCK = 1 << 20


def load_model(folder: Path, lock: Lock) -> PreTrainedModel:
    """Load the base model in the type that the lock says, or packed, after holding it against the lock.

    Raises Failure (model-mismatch) where it is another architecture, vocabulary size or set of weights, and Failure
    where it is quantised already.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    actual = {"architecture": (config.get("architectures") or [None])[0], "vocab_size": config.get("vocab_size")}
    for name, value in actual.items():
        if value is not None and value != lock.model[name]:
            raise Failure("model-mismatch", f"{name} is {value}, the lock has {lock.model[name]}")
    for name, digest in sorted(lock.model["files"].items()):
        if name.endswith(".safetensors"):
            _check_weights(folder / name, digest)
    if method := (config.get("quantization_config") or {}).get("quant_method"):
        raise Failure("error", f"the base model is quantised already ({method}); train on its 16-bit original")
    attention = lock.knobs.attn_implementation
    options = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    options["attn_implementation"] = attention
    if quantisation := Quantisation.of(lock.knobs):
        device = int(os.environ["LOCAL_RANK"]) if on_cuda() else "cpu"
        model = load_quantised(folder, quantisation, dtype(lock.knobs.dtype), device, **options)
    else:
        kept = dtype("float32" if lock.knobs.master_weights else lock.knobs.dtype)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=kept, **options)
    if (actual := model.config.get_text_config()._attn_implementation) != attention:
        raise Failure("error", f"attention is {actual}, the lock has {attention}")
    return model


def attach(model: PreTrainedModel, knobs: Knobs, name: str) -> PeftModel:
    """Freeze the model and attach a LoRA adapter in float32, with random weights from the seed in force.

    Raises Failure where `target_modules` fits no layer.
    """
    config = LoraConfig(
        r=knobs.r,
        lora_alpha=knobs.lora_alpha,
        lora_dropout=knobs.lora_dropout,
        target_modules=knobs.target_modules,
        use_dora=knobs.use_dora,
        use_rslora=knobs.use_rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise Failure("error", f"target_modules {knobs.target_modules}: {error}") from error
    adapted.peft_config["default"].base_model_name_or_path = name
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def tensors(model: PeftModel, values: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Copies of the adapter's tensors by the names they are saved under, on the CPU; those of `values` where given."""
    found = get_peft_model_state_dict(model, state_dict=values, save_embedding_layers=False)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in sorted(found.items())}


def check_finite(after: dict[str, torch.Tensor]) -> None:
    """Look through a trained adapter.

    Raises Failure (nan) where a value is not finite.
    """
    broken = [name for name, tensor in after.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise Failure("nan", f"{len(broken)} tensors of the adapter hold values that are not finite: {broken[0]}")


def check_moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    """Hold a trained adapter against what it began as.

    Raises Failure (adapter-never-moved) where every tensor is as it was.
    """
    if all(torch.equal(before[name], tensor) for name, tensor in after.items()):
        raise Failure("adapter-never-moved", f"all {len(after)} tensors of the adapter are as they began")


def save(model: PeftModel, folder: Path, values: dict[str, torch.Tensor] | None = None) -> dict[str, str]:
    """Write the adapter, the same bytes for the same values, synced to disk; gives each file's SHA-256 by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(model, values), folder / WEIGHTS_NAME, metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict() | {"inference_mode": True}
    text = json.dumps(config, default=_plain, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    digests = {}
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        (folder / name).chmod(0o644)  # safetensors writes files that only their owner can read
        with (folder / name).open("rb") as stream:
            os.fsync(stream.fileno())
        digests[name] = sha256(folder / name)
    return digests


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check_weights(path: Path, digest: str) -> None:
    if not path.is_file():
        raise Failure("model-mismatch", f"{path.name} is not in the model's folder")
    if sha256(path) != digest:
        raise Failure("model-mismatch", f"{path.name} does not have the digest of the lock")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)
