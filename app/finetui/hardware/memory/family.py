"""A configuration under our names: the family's own spellings, defaults and traits from `families.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("n_head", "num_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab_size": ("padded_vocab_size",),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("top_k_experts", "num_experts_per_token", "moe_k"),
}
_MOST_LAYERS = 10_000
_LARGEST = 1 << 24
"""Above any size that a model has; a larger number is a slip."""
_WRAPPERS = ("text_config", "llm_config", "language_config")


class UnusableConfig(ValueError):
    """A configuration that lacks a size, or has one that no model has; its argument is the key."""


@dataclass(frozen=True)
class Family:
    """What a configuration says, and what its family adds."""

    model_type: str
    known: bool
    """Whether `families.toml` has it."""
    values: Mapping[str, Any]
    """The configuration, defaults of the family beneath."""
    traits: Mapping[str, Any]
    """The family's entry; a Llama's where there is none."""

    def number(self, key: str, otherwise: int | None = None) -> int:
        """A size under any of its names; none of those that every model has is 0.

        Raises UnusableConfig where it is missing and nothing is said to stand in for it.
        """
        least = 1 if otherwise is None else 0
        own = self.traits.get("alias", {}).get(key)
        for name in (key, *((own,) if own else ()), *_ALIASES.get(key, ())):
            value = self.values.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST:
                return value
        if otherwise is None:
            raise UnusableConfig(key)
        return otherwise

    def flag(self, key: str) -> bool:
        """A yes or no of the configuration; no where it says nothing."""
        return self.values.get(key) is True

    def trait(self, name: str) -> bool:
        """A yes or no of the family, which may name the key of the configuration that decides it."""
        value = self.traits.get(name, False)
        return self.flag(value) if isinstance(value, str) else bool(value)

    def name(self, layer: str, otherwise: str) -> str:
        """What the family calls a linear layer."""
        return str(self.traits.get("names", {}).get(layer, otherwise))

    @property
    def head_dim(self) -> int:
        """Features of one head."""
        hidden, heads = self.number("hidden_size"), self.number("num_attention_heads")
        return self.number("head_dim", self.number("kv_channels", hidden // max(1, heads)))

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        if self.values.get("multi_query_attention") is False:
            return self.number("num_attention_heads")
        return self.number("num_key_value_heads", self.number("num_attention_heads"))

    def own_heads(self, layer: int, full: bool) -> tuple[int, int]:
        """Features of a head, and heads of keys and values, where layers of full attention have their own."""
        table = self.values.get("per_layer_config")
        own = table.get(str(layer)) if isinstance(table, Mapping) else None
        if isinstance(own, Mapping):
            size, kv_heads = (own.get(key) for key in ("head_dim", "num_key_value_heads"))
            return size or self.head_dim, kv_heads or self.kv_heads
        if not full:
            return self.head_dim, self.kv_heads
        shared = self.flag("attention_k_eq_v")
        kv_heads = self.number("num_global_key_value_heads", self.kv_heads) if shared else self.kv_heads
        return self.number("global_head_dim"), kv_heads

    def layer_types(self) -> list[str]:
        """What attention each layer has: `full_attention`, `sliding_attention` or `linear_attention`.

        Raises UnusableConfig for a number of layers that no model has.
        """
        layers = self.number("num_hidden_layers")
        if not 0 < layers <= _MOST_LAYERS:
            raise UnusableConfig("num_hidden_layers")
        said = self.values.get("layer_types")
        if isinstance(said, list) and len(said) == layers:
            return [str(kind) for kind in said]
        window = self.values.get("sliding_window")
        if every := self.number("full_attention_interval", 0):
            other = "linear_attention"
        elif window and (every := self.number("sliding_window_pattern", 0)):
            other = "sliding_attention"
        else:
            plain = "sliding_attention" if window and self.values.get("use_sliding_window", True) else "full_attention"
            return [plain] * layers
        return ["full_attention" if (layer + 1) % every == 0 else other for layer in range(layers)]


def read_family(config: Mapping[str, Any]) -> Family:
    """The family of a configuration; that of the language model where there are several."""
    inner = next((config[key] for key in _WRAPPERS if isinstance(config.get(key), Mapping)), None)
    outer_tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    values = {**outer_tied, **inner} if inner else dict(config)
    name = str(values.get("model_type") or config.get("model_type") or "")
    found = next((entry for entry in (name, f"{name}_text") if entry in _families()), None)
    traits = _families()[found or "llama"]
    return Family(name, found is not None, {**traits.get("defaults", {}), **_said(values)}, traits)


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


@cache
def _families() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("families.toml").read_text(encoding="utf-8"))
