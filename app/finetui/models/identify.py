"""What a model folder holds, told by its content: configuration, headers, tokenizer, digests. Nothing is loaded."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.files import read_json, sha256_json
from finetui.core.jobs import Progress
from finetui.models.digests import digests
from finetui.models.places import origin
from finetui.models.weights import ADAPTER, INDEX, Weights, read_weights

CONFIG = "config.json"
_VERSIONED = (CONFIG, "generation_config.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken", "spiece.model")
"""Patterns of the files that hold a tokenizer."""
_COMPANIONS = (
    *_VERSIONED,
    *TOKENIZERS,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "*.py",
)
_ALIASES = {
    "vocab_size": ("padded_vocab_size",),
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers"),
    "max_position_embeddings": ("n_positions", "seq_length", "max_seq_len", "n_ctx"),
}


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a base model without loading it."""

    folder: Path
    """Where it lies on this machine."""
    name: str
    """What people call it: the end of its hub id, else its folder's name."""
    source: str | None
    """A reference that `find_model` takes on any machine (a hub id, `demo`), or None for a folder of unknown origin."""
    revision: str | None
    """The commit of the hub, or the version, where it is known."""
    architecture: str
    """The class that transformers loads, such as `LlamaForCausalLM`; empty where the configuration names none."""
    model_type: str
    vocab_size: int
    """Rows of the embedding; a tokenizer may know fewer."""
    hidden_size: int
    num_hidden_layers: int
    dtype: str
    """The dtype that most of the weights are stored in, as torch spells it."""
    parameters: int
    """Number of stored weights."""
    files: Mapping[str, str]
    """SHA-256 of every file that the identity covers, by its name in the folder."""
    identity: str
    """SHA-256 over names and digests of weights, tokenizer, template and configuration."""
    max_position_embeddings: int | None
    tie_word_embeddings: bool
    """Whether embedding and output share one matrix."""
    has_tokenizer: bool
    quantization: str | None
    """Method of a quantised checkpoint (`bitsandbytes`, `gptq`, …), or None."""
    custom_code: tuple[str, ...]
    """Python files of the model's own that loading it would run."""
    config: Mapping[str, Any] = field(repr=False, compare=False)
    """The whole of config.json."""


def identify(folder: Path, on_progress: Progress | None = None) -> ModelFacts:
    """The facts of a model folder; digests of files that did not change come from the cache.

    Raises FinetuiError (exit 3) with everything that is wrong with the folder.
    """
    problems: list[Problem] = []
    config = read_config(folder, problems)
    weights = read_weights(folder, problems)
    sizes = {name: config_number(config, name) for name in _ALIASES}
    if config and not problems:
        lacking = [name for name in ("vocab_size", "hidden_size", "num_hidden_layers") if sizes[name] is None]
        problems += [Problem("models.config-lacks", {"key": key}, str(folder / CONFIG)) for key in lacking]
    if problems:
        raise FinetuiError(problems, BAD_INPUT)
    names = model_files(folder, weights)
    found = digests([folder / name for name in names], on_progress)
    files = {name: found[folder / name] for name in names}
    name, source, revision = origin(folder)
    quantization = config.get("quantization_config")
    return ModelFacts(
        folder=folder,
        name=name,
        source=source,
        revision=revision,
        architecture=str((config.get("architectures") or [""])[0]),
        model_type=str(config.get("model_type", "")),
        vocab_size=sizes["vocab_size"] or 0,
        hidden_size=sizes["hidden_size"] or 0,
        num_hidden_layers=sizes["num_hidden_layers"] or 0,
        dtype=weights.dtype,
        parameters=weights.parameters,
        files=files,
        identity=identity_of(folder, files),
        max_position_embeddings=sizes["max_position_embeddings"],
        tie_word_embeddings=_tied(config, weights),
        has_tokenizer=any(fnmatch.fnmatch(name, pattern) for name in names for pattern in TOKENIZERS),
        quantization=str(quantization.get("quant_method", "unknown")) if isinstance(quantization, dict) else None,
        custom_code=code_files(config),
        config=config,
    )


def read_config(folder: Path, problems: list[Problem]) -> dict[str, Any]:
    """The object in config.json; what is wrong with it is added to `problems` and gives an empty one."""
    path = folder / CONFIG
    try:
        config = read_json(path)
        if isinstance(config, dict) and config:
            return config
    except (FileNotFoundError, NotADirectoryError):
        if not (folder / ADAPTER).is_file():  # an adapter's folder is told apart by its weights
            problems.append(Problem("models.no-config", {"folder": str(folder)}))
        return {}
    except ValueError:
        pass
    problems.append(Problem("models.bad-config", file=str(path)))
    return {}


def model_files(folder: Path, weights: Weights) -> list[str]:
    """Names of the files that make the model what it is, sorted: weights, configuration, tokenizer, template, code."""
    companions = {
        path.relative_to(folder).as_posix()
        for pattern in _COMPANIONS
        for path in folder.glob(pattern)
        if path.is_file()
    }
    return sorted(companions | set(weights.files) | ({INDEX} if weights.indexed else set()))


def identity_of(folder: Path, files: Mapping[str, str]) -> str:
    """The identity of a model whose files have these digests.

    Configuration counts by its content without `transformers_version`, which saving a model again would change.
    """
    counted = dict(files)
    for name in _VERSIONED:
        if name in files:
            counted[name] = _unversioned(folder / name) or files[name]
    return sha256_json(counted)


def _unversioned(path: Path) -> str | None:
    try:
        content = read_json(path)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    return sha256_json({key: value for key, value in content.items() if key != "transformers_version"})


def config_number(config: Mapping[str, Any], key: str) -> int | None:
    """A size from the configuration, under any of its names; that of the language model where there are several."""
    for table in (config, config.get("text_config")):
        if isinstance(table, dict):
            for name in (key, *_ALIASES[key]):
                if isinstance(value := table.get(name), int):
                    return value
    return None


def _tied(config: Mapping[str, Any], weights: Weights) -> bool:
    for table in (config, config.get("text_config")):
        if isinstance(table, dict) and isinstance(tied := table.get("tie_word_embeddings"), bool):
            return tied
    return not any(name.endswith("lm_head.weight") for name in weights.names)


def code_files(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The Python files that `auto_map` names: `configuration_x.X` stands for configuration_x.py."""
    classes = config.get("auto_map")
    if not isinstance(classes, dict):
        return ()
    references = [name for value in classes.values() for name in (value if isinstance(value, list) else [value])]
    return tuple(sorted({f"{str(name).rpartition('.')[0]}.py" for name in references if name}))
