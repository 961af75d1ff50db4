"""Full fine-tuning: every weight of the language model, and a result in the shape of the base model's own files."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from .failure import Failure

WEIGHTS_NAME = "model.safetensors"
TEMPLATE_NAME, GENERATION_NAME = "chat_template.jinja", "generation_config.json"
WRITTEN = (TEMPLATE_NAME, GENERATION_NAME)
"""Files that are made or changed beside the weights."""
_INDEX = f"{WEIGHTS_NAME}.index.json"
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_WEIGHTS = (
    "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt", "*.pkl",
    "*.gguf", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.npz",
)  # fmt: skip


def release(model: PreTrainedModel) -> PreTrainedModel:
    """Let every weight of the language model be trained, its output included; towers for pictures stay frozen."""
    language = {id(parameter) for parameter in model.get_decoder().parameters()}
    language |= {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in language)
    return model


def check_finite(values: Mapping[str, torch.Tensor]) -> None:
    """Look through the trained weights where they lie, one tensor at a time.

    Raises Failure (nan) where a value is not finite.
    """
    broken = [name for name, weight in values.items() if not torch.isfinite(weight).all()]
    if broken:
        raise Failure("nan", f"{len(broken)} weights hold values that are not finite: {broken[0]}")


def write_model(
    model: PreTrainedModel, trained: Mapping[str, torch.Tensor], base: Path, names: list[str], folder: Path
) -> bool:
    """Write the weight files `names` of the base model with the `trained` values of `model` in place of the old ones.

    Names, shapes, types and order are those of the base, so its configuration fits as it is, tied weights stay tied,
    and what the language model has no part in is kept. One tensor at a time is in memory beside the model. Gives
    whether any byte of a weight differs from the base's.

    Raises Failure (model-mismatch) where a trained weight has no place in those files.
    """
    values = revert_weight_conversion(model, {name: value.detach() for name, value in trained.items()})
    stored: set[int] = set()
    moved = False
    for name in names:
        with (base / name).open("rb") as source, (folder / name).open("wb") as target:
            size = source.read(8)
            text = source.read(int.from_bytes(size, "little"))
            target.write(size + text)
            for tensor, entry in _in_order(json.loads(text)):
                old = source.read(entry["data_offsets"][1] - entry["data_offsets"][0])
                if tensor not in values:
                    target.write(old)
                    continue
                new = _stored_as(values[tensor], tensor, entry)
                moved = moved or not np.array_equal(new, np.frombuffer(old, np.uint8))
                target.write(new.data)
                stored.add(values[tensor].data_ptr())
    lost = [name for name, value in values.items() if value.data_ptr() not in stored]
    if lost:
        raise Failure("model-mismatch", f"{len(lost)} weights have no place in the base model's files: {lost[0]}")
    return moved


def carry(base: Path, names: list[str], template: Mapping[str, Any], folder: Path) -> None:
    """Copy what a model has beside its weights, and note the template and the stop ids that it was trained with."""
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base)
        hidden = any(part.startswith((".", "__pycache__")) for part in name.parts)
        weights = any(fnmatch.fnmatch(path.name, pattern) for pattern in _WEIGHTS)
        if path.is_file() and not hidden and (not weights or (name.name == _INDEX and names != [WEIGHTS_NAME])):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    if template.get("text") and template.get("source") != "model":
        (folder / TEMPLATE_NAME).write_text(template["text"], encoding="utf-8")
    _add_stops(folder, template.get("stop_ids") or [])


def write_checkpoint(model: PreTrainedModel, folder: Path) -> None:
    """Write the trained weights as they are in memory, under their names there."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = trained_weights(model)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, weight in weights.items():
        end = offset + weight.numel() * weight.element_size()
        header[name] = {"dtype": _NAMES[weight.dtype], "shape": list(weight.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / WEIGHTS_NAME).open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for weight in weights.values():
            target.write(_bytes(weight).data)


def read_checkpoint(model: PreTrainedModel, folder: Path) -> None:
    """Put the weights of a checkpoint back in place."""
    with safe_open(folder / WEIGHTS_NAME, "pt") as file, torch.no_grad():
        for name, weight in trained_weights(model).items():
            weight.copy_(file.get_tensor(name))


def trained_weights(model: torch.nn.Module, *, every_name: bool = False) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by their names; tied ones once, or under `every_name` that they have."""
    named = model.named_parameters(remove_duplicate=not every_name)
    return {name: weight for name, weight in named if weight.requires_grad}


def _in_order(header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tensors of a header in the order of their bytes."""
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    yield from sorted(entries.items(), key=lambda item: item[1]["data_offsets"])


def _stored_as(value: torch.Tensor, name: str, entry: dict[str, Any]) -> np.ndarray:
    """The bytes of a tensor in the type that the base has it in."""
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None or list(value.shape) != entry["shape"]:
        kept = f"{entry['dtype']} {entry['shape']}"
        raise Failure("model-mismatch", f"{name} is {list(value.shape)} and the base model's file has {kept}")
    return _bytes(value.detach().to(dtype))


def _bytes(value: torch.Tensor) -> np.ndarray:
    """The bytes of a tensor, row after row: [bytes] uint8."""
    return value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()


def _add_stops(folder: Path, trained: list[int]) -> None:
    """See to it that generation_config.json names every stop id that was trained."""
    path = folder / GENERATION_NAME
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stops = settings.get("eos_token_id", config.get("eos_token_id"))
    present = [stops] if isinstance(stops, int) else list(stops or [])
    wanted = present + [stop for stop in trained if stop not in present]
    if wanted != present:
        settings["eos_token_id"] = wanted[0] if len(wanted) == 1 else wanted
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
