"""The shape of a language model, from its configuration alone: what it is made of, and how many weights that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetui.hardware.memory.blocks import Block, Linear, blocks
from finetui.hardware.memory.family import Family, UnusableConfig, read_family


@dataclass(frozen=True)
class Shape:
    """What memory and time are counted from; all sizes are numbers of weights or of features."""

    model_type: str
    """As config.json names the language model."""
    known: bool
    """Whether the family is one that we know; another is read as a Llama, which may be wrong by a part."""
    hidden: int
    """Features of the residual stream."""
    vocab: int
    """Rows of the embedding."""
    tied: bool
    """Whether the output layer is the embedding."""
    blocks: tuple[tuple[Block, int], ...]
    """The different layers, each with how often it occurs."""
    extra: tuple[Linear, ...]
    """Linear layers of the language model outside its blocks, but the output layer."""
    extra_parameters: int
    """Weights outside the blocks that are neither linear layers nor the two ends: norms, further embeddings."""
    head_bias: bool
    """Whether the output layer adds a bias."""
    tower: int
    """Weights of vision and audio towers, estimated; 0 for a language model alone."""

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return sum(times for _, times in self.blocks)

    @property
    def embedding(self) -> int:
        """Weights of the embedding."""
        return self.vocab * self.hidden

    @property
    def head(self) -> int:
        """Weights of the output layer; 0 where it is the embedding."""
        return (0 if self.tied else self.embedding) + self.vocab * self.head_bias

    @cached_property
    def linear(self) -> int:
        """Weights of all linear layers but the output's: what quantisation packs."""
        return sum(linear.weights for linear in self.linear_layers())

    @cached_property
    def experts(self) -> int:
        """Weights of routed experts, which are one tensor a layer and no linear layers."""
        return sum(block.experts * times for block, times in self.blocks)

    @cached_property
    def parameters(self) -> int:
        """All weights of the language model, its output layer counted once where it is tied."""
        others = sum(block.others * times for block, times in self.blocks)
        biases = sum(linear.biases for linear in self.linear_layers())
        return self.embedding + self.head + self.linear + biases + self.experts + others + self.extra_parameters

    @property
    def active_parameters(self) -> int:
        """Weights that one token meets in matrix products, the output layer included and the embedding not."""
        active = sum(block.active_experts * times for block, times in self.blocks)
        return self.linear + active + self.embedding

    def linear_layers(self) -> tuple[Linear, ...]:
        """Every linear layer of the language model but its output, equal ones counted together."""
        return self._linear_layers

    @cached_property
    def _linear_layers(self) -> tuple[Linear, ...]:
        counted: Counter[tuple[str, int, int, bool]] = Counter()
        for block, times in ((self._ends, 1), *self.blocks):
            for linear in block.linears:
                counted[linear.name, linear.out, linear.inp, linear.bias] += linear.count * times
        return tuple(Linear(*key, count) for key, count in counted.items())

    @property
    def _ends(self) -> Block:
        return Block(linears=self.extra)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes.

    Raises UnusableConfig where a size that nothing can stand in for is missing.
    """
    family = read_family(config)
    made = blocks(family)
    extra, extra_parameters = _extra(family)
    return Shape(
        model_type=family.model_type,
        known=family.known,
        hidden=family.number("hidden_size"),
        vocab=family.number("vocab_size"),
        tied=family.flag("tie_word_embeddings"),
        blocks=tuple(Counter(made).items()),
        extra=extra,
        extra_parameters=extra_parameters,
        head_bias=bool(family.traits.get("head_bias", False)),
        tower=_towers(config),
    )


def _extra(family: Family) -> tuple[tuple[Linear, ...], int]:
    hidden = family.number("hidden_size")
    norm = hidden * (2 if family.traits.get("norm_bias") else 1)
    side = family.number("hidden_size_per_layer_input", 0)
    if not side:
        return (), norm
    width = family.number("num_hidden_layers") * side
    table = family.number("vocab_size_per_layer_input") * width
    return (Linear("per_layer_model_projection", width, hidden),), norm + table + side


def _towers(config: Mapping[str, Any]) -> int:
    """Weights of encoders for other than text, as plain transformers: 4 h² of attention and 2 h I of MLP a layer."""
    total = 0
    for key in ("vision_config", "audio_config"):
        tower = config.get(key)
        if not isinstance(tower, Mapping):
            continue
        hidden = tower.get("hidden_size") or tower.get("d_model") or 0
        layers = tower.get("num_hidden_layers") or tower.get("depth") or 0
        inner = tower.get("intermediate_size") or 4 * hidden
        if all(isinstance(size, int) for size in (hidden, layers, inner)):
            total += layers * hidden * (4 * hidden + 2 * inner)
    return total


__all__ = ["Linear", "Shape", "UnusableConfig", "shape_of"]
