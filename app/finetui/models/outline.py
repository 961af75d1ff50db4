"""What planning needs of a model folder: configuration and headers, in milliseconds; config.json alone is enough."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.files import read_json
from finetui.hardware.memory.shape import Shape, UnusableConfig, shape_of
from finetui.models.identify import CONFIG, TOKENIZERS, code_files, config_number, read_config
from finetui.models.places import origin
from finetui.models.weights import INDEX, Weights, read_weights

_NOT_HERE = ("models.no-weights", "models.pickle", "models.gguf-only")
_WEIGHTS = (".weight", ".qweight")
_EMBEDDING = re.compile(r"wte|wpe|(?!embed_out).*embed.*")
"""Ends of names of matrices that are looked up in; `embed_out` is an output layer."""
_HEAD = "lm_head"
_TOWERS = ("vision_config", "audio_config", "vision_tower_config")


@dataclass(frozen=True)
class Outline:
    """What is known of a model without reading, or even having, its weights."""

    folder: Path
    name: str
    """What people call it: the end of its hub id, else its folder's name."""
    config: Mapping[str, Any] = field(repr=False, compare=False)
    """The whole of config.json."""
    shape: Shape = field(repr=False)
    """What memory and time are counted from."""
    layers: tuple[str, ...] = field(repr=False)
    """Names of the linear layers: as the weights have them, or the ends of the names where there are no weights."""
    dtype: str
    """The dtype of the weights, as torch spells it."""
    weight_bytes: int | None
    """Bytes of all weights; None where they are not here."""
    max_position_embeddings: int | None
    quantization: str | None
    """How the checkpoint itself is quantised (`gptq`, `awq`, `bitsandbytes`, …), or None."""
    custom_code: tuple[str, ...]
    """Python files of the model's own that loading it would run."""
    has_tokenizer: bool
    has_weights: bool
    """Whether every weight file is here, whole."""
    model_type: str
    """As config.json names the model; of a wrapper that of the whole."""
    architecture: str
    """The class that transformers loads; empty where the configuration names none."""
    towers: tuple[str, ...] = ()
    """What it reads beside text, such as `vision`; empty for a language model alone."""

    @property
    def parameters(self) -> int:
        """Weights of the language model."""
        return self.shape.parameters

    def bits(self) -> int:
        """Bits a weight of a checkpoint that comes quantised; 16 of another."""
        if self.quantization is None:
            return 16
        said = self.config["quantization_config"]
        known = said.get("bits") or said.get("w_bit") or (4 if said.get("load_in_4bit") else None)
        eight = "8" in self.quantization or said.get("load_in_8bit")
        return known if isinstance(known, int) and known > 0 else 8 if eight else 4


def outline(folder: Path) -> Outline:
    """The outline of a model folder.

    Raises FinetuiError (exit 3) where there is no configuration that can be used, or where weight files are broken.
    """
    problems: list[Problem] = []
    config = read_config(folder, problems)
    faults: list[Problem] = []
    weights = read_weights(folder, faults)
    here = not faults
    if faults and _only_shards_missing(faults):
        faults = []
    problems += [problem for problem in faults if problem.code not in _NOT_HERE]
    shape = _shape(folder, config, problems) if config else None
    if problems or shape is None:
        raise FinetuiError(problems, BAD_INPUT)
    quantization = config.get("quantization_config")
    return Outline(
        folder=folder,
        name=origin(folder)[0],
        config=config,
        shape=shape,
        layers=_layers(weights, folder, shape) or tuple(linear.name for linear in shape.linear_layers()),
        dtype=weights.dtype if weights.files else _stated_dtype(config),
        weight_bytes=_bytes(weights, folder),
        max_position_embeddings=_limit(config),
        quantization=str(quantization.get("quant_method", "unknown")) if isinstance(quantization, dict) else None,
        custom_code=code_files(config),
        has_tokenizer=any(next(folder.glob(pattern), None) for pattern in TOKENIZERS),
        has_weights=here,
        model_type=str(config.get("model_type", "")),
        architecture=_architecture(config),
        towers=tuple(name.partition("_")[0] for name in _TOWERS if isinstance(config.get(name), dict)),
    )


def _limit(config: Mapping[str, Any]) -> int | None:
    said = config_number(config, "max_position_embeddings")
    return said if said and said > 0 else None


def _architecture(config: Mapping[str, Any]) -> str:
    said = config.get("architectures")
    return str(said[0]) if isinstance(said, list) and said else ""


def _only_shards_missing(problems: list[Problem]) -> bool:
    return all(problem.code == "models.missing-shard" for problem in problems)


def _shape(folder: Path, config: Mapping[str, Any], problems: list[Problem]) -> Shape | None:
    try:
        return shape_of(config)
    except UnusableConfig as error:
        problems.append(Problem("models.config-lacks", {"key": error.args[0]}, str(folder / CONFIG)))
        return None


def _layers(weights: Weights, folder: Path, shape: Shape) -> tuple[str, ...]:
    """Names of the linear layers, by the headers; by the index alone where shards are missing.

    An output layer that is the embedding is none: what an adapter did to it could not be merged.
    """
    found = {tensor.name: len(tensor.shape) for header in weights.files.values() for tensor in header.tensors}
    names = found or dict.fromkeys(_indexed(folder).get("weight_map", {}), 2)
    ends = {name: end for name in names for end in _WEIGHTS if name.endswith(end)}
    matrices = sorted(name.removesuffix(end) for name, end in ends.items() if names[name] == 2)
    return tuple(name for name in matrices if not _looks_up(name.rpartition(".")[2], shape))


def _looks_up(name: str, shape: Shape) -> bool:
    return _EMBEDDING.fullmatch(name) is not None or (shape.tied and name == _HEAD)


def _bytes(weights: Weights, folder: Path) -> int | None:
    indexed = _indexed(folder).get("metadata", {})
    stated = indexed.get("total_size") if isinstance(indexed, dict) else None
    if isinstance(stated, int):
        return stated
    return sum(tensor.bytes for header in weights.files.values() for tensor in header.tensors) or None


def _indexed(folder: Path) -> dict[str, Any]:
    try:
        index = read_json(folder / INDEX)
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) and isinstance(index.get("weight_map"), dict) else {}


def _stated_dtype(config: Mapping[str, Any]) -> str:
    for table in (config, config.get("text_config") or {}):
        for key in ("dtype", "torch_dtype"):
            if isinstance(said := table.get(key), str):
                return said
    return "bfloat16"
