"""A LoRA adapter as peft saves it, read without loading it, and held against the model that it is to go into."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.files import read_json
from finetui.core.tensors import CutShort, Header, NotTensors, Tensor, read_header
from finetui.models.identify import ModelFacts
from finetui.models.weights import ADAPTER, Weights

CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB]\.weight|magnitude_vector)")
_A, _B, _MAGNITUDE = "A.weight", "B.weight", "magnitude_vector"
_DTYPES = frozenset({"BF16", "F16", "F32"})
_KNOWN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
_PLAIN = {"bias": ("none", None), "init_lora_weights": _KNOWN_INITS}
_BEYOND_PLAIN = (
    "alora_invocation_tokens",
    "arrow_config",
    "bias",
    "fan_in_fan_out",
    "init_lora_weights",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
"""Settings of peft's LoraConfig that make an adapter more than LoRA or DoRA on the base's own weights."""


@dataclass(frozen=True)
class Change:
    """What one adapted weight gets added: `scaling * B @ A`, with A [rank, in] and B [out, rank].

    With a magnitude [out] (DoRA), each row of the sum is then scaled to that length.
    """

    a: str
    """Name of A in the adapter's file."""
    b: str
    """Name of B."""
    scaling: float
    magnitude: str | None = None
    """Name of the magnitude."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's configuration and the header of its weights."""

    folder: Path
    config: Mapping[str, Any]
    header: Header

    @property
    def base(self) -> str | None:
        """What its configuration calls the base model."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder.

    Raises FinetuiError (exit 3) where there is none, or one whose files are broken or hold something else than LoRA.
    """
    problems: list[Problem] = []
    config: dict[str, Any] = {}
    header = Header(b"", {}, ())
    path = folder / CONFIG
    try:
        config = read_json(path)
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            kind = str(config.get("peft_type", "?")) if isinstance(config, dict) else "?"
            problems.append(Problem("merge.not-lora", {"kind": kind}, str(path)))
    except (FileNotFoundError, NotADirectoryError):
        problems.append(Problem("merge.no-adapter", {"folder": str(folder)}))
    except ValueError:
        problems.append(Problem("merge.bad-config", file=str(path)))
    if not problems:
        header = _header(folder, problems)
    if problems:
        raise FinetuiError(problems, BAD_INPUT)
    return Adapter(folder, config, header)


def changes(adapter: Adapter, facts: ModelFacts, weights: Weights) -> dict[str, Change]:
    """What merging adds to which of the base's tensors: every key of the adapter is used, and every shape fits.

    Raises FinetuiError (exit 3) with everything that keeps the two from being merged.
    """
    problems = [
        Problem("merge.not-plain", {"setting": f"{setting} = {adapter.config[setting]}"}, str(adapter.folder / CONFIG))
        for setting in _BEYOND_PLAIN
        if not _is_plain(setting, adapter.config.get(setting))
    ]
    if facts.quantization:
        problems.append(Problem("merge.quantised-base", {"method": facts.quantization, "base": facts.name}))
    if problems:
        raise FinetuiError(problems, BAD_INPUT)
    modules = _modules(adapter, problems)
    tensors = {tensor.name: tensor for header in weights.files.values() for tensor in header.tensors}
    found: dict[str, Change] = {}
    for module, sides in modules.items():
        target = f"{module}.weight"
        if facts.tie_word_embeddings and module.rpartition(".")[2] == "lm_head":
            problems.append(Problem("merge.tied-head", {"base": facts.name}, str(adapter.folder)))
        elif target not in tensors:
            problems.append(Problem("merge.unused-key", {"key": target, "base": facts.name}, str(adapter.folder)))
        elif misfit := _misfit(sides, tensors[target]):
            problems.append(Problem("merge.shape", {"tensor": target, **misfit}, str(adapter.folder / ADAPTER)))
        elif foreign := {t.dtype for t in (*sides.values(), tensors[target])} - _DTYPES:
            problems.append(Problem("merge.dtype", {"tensor": target, "dtype": ", ".join(sorted(foreign))}))
        elif (scaling := _scaling(adapter.config, module, sides[_A].shape[0])) is None:
            problems.append(Problem("merge.bad-config", file=str(adapter.folder / CONFIG)))
            break
        else:
            magnitude = sides[_MAGNITUDE].name if _MAGNITUDE in sides else None
            found[target] = Change(sides[_A].name, sides[_B].name, scaling, magnitude)
    if problems:
        raise FinetuiError(problems, BAD_INPUT)
    return found


def _header(folder: Path, problems: list[Problem]) -> Header:
    path = folder / ADAPTER
    try:
        return read_header(path)
    except FileNotFoundError:
        problems.append(Problem("merge.no-adapter-weights", {"folder": str(folder)}))
    except NotTensors:
        problems.append(Problem("models.bad-weights", file=str(path)))
    except CutShort as error:
        facts = {"size": error.size, "promised": error.promised}
        problems.append(Problem("models.cut-short", facts, str(path)))
    return Header(b"", {}, ())


def _is_plain(setting: str, value: object) -> bool:
    return value in _PLAIN[setting] if setting in _PLAIN else not value


def _modules(adapter: Adapter, problems: list[Problem]) -> dict[str, dict[str, Tensor]]:
    """The parts of each adapted module, by its name in the base model; anything else in the file is a problem."""
    modules: dict[str, dict[str, Tensor]] = {}
    whole = {_A, _B, _MAGNITUDE} if adapter.config.get("use_dora") else {_A, _B}
    file = str(adapter.folder / ADAPTER)
    for tensor in adapter.header.tensors:
        match = _PART.fullmatch(tensor.name.removeprefix(_PREFIX))
        if match is None or not tensor.name.startswith(_PREFIX):
            problems.append(Problem("merge.foreign-key", {"key": tensor.name}, file))
        else:
            modules.setdefault(match["module"], {})[match["side"]] = tensor
    for module in [name for name, sides in modules.items() if set(sides) != whole]:
        facts = {"module": module, "parts": _spell(whole), "found": _spell(modules.pop(module))}
        problems.append(Problem("merge.half-pair", facts, file))
    if not modules and not problems:
        problems.append(Problem("merge.empty", file=file))
    return modules


def _spell(parts: Iterable[str]) -> str:
    return ", ".join(f"lora_{part}" for part in sorted(parts))


def _misfit(sides: Mapping[str, Tensor], base: Tensor) -> dict[str, str] | None:
    """The shapes in words, where `B @ A` has not the shape of the base's weight, or the magnitude not its rows."""
    a, b = sides[_A].shape, sides[_B].shape
    lengths = sides[_MAGNITUDE].shape if _MAGNITUDE in sides else b[:1]
    if len(a) == len(b) == 2 and a[0] == b[1] and (b[0], a[1]) == base.shape and lengths == b[:1]:
        return None
    parts = ", ".join(f"lora_{name} {list(part.shape)}" for name, part in sorted(sides.items()))
    return {"parts": parts, "shape": str(list(base.shape))}


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float | None:
    """The factor of one module: alpha / r, with rsLoRA alpha / sqrt(r), as in peft's `LoraLayer.update_layer`; None
    where the configuration is not one that peft could have written.
    """
    try:
        patterns = config.get("alpha_pattern") or {}
        matching = (key for key in patterns if re.match(rf"(.*\.)?({key})$", module))
        alpha = float(patterns.get(next(matching, ""), config.get("lora_alpha", 8)))
        return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    except (re.error, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
