"""Which layers get an adapter: every linear layer of the language model, in words that peft understands."""

from __future__ import annotations

import re

from finetui.core.knobs import Value
from finetui.models.outline import Outline
from finetui.recipes.resolve.settings import Choice

ALL = "all-linear"
_MLP = frozenset(
    (
        "gate_proj",
        "up_proj",
        "down_proj",
        "gate_up_proj",
        "shared_expert_gate",
        "proj",
        "per_layer_input_gate",
        "per_layer_projection",
        "per_layer_model_projection",
    )
)
"""Linear layers beside the experts of a mixture: shared experts, and dense layers in between."""
_NO_TOWER = r"(?!.*(?:vision|visual|audio|image))"


def targets(model: Outline, asked: Choice) -> Choice:
    """What `all-linear` comes to for this model; anything else stays as it was asked for.

    peft would take it to mean towers for pictures and sound too; routed experts are one tensor a layer, which it would
    pass over while it adapts the few linear layers beside them.
    """
    if asked.value != ALL or not (model.towers or model.shape.experts):
        return asked
    names = sorted(_language_layers(model))
    facts = {"names": ", ".join(names), "towers": ", ".join(model.towers)}
    if model.towers:
        code = "reasons.targets-both" if model.shape.experts else "reasons.targets-tower"
        return Choice(rf"{_NO_TOWER}.*\.(?:{'|'.join(names)})", code, facts)
    return Choice(names, "reasons.targets-experts", facts)


def adapted(model: Outline, value: Value) -> str | tuple[str, ...]:
    """The linear layers that get an adapter, by the ends of their names, as memory is counted; or `all-linear`."""
    if value == ALL:
        return ALL
    known = {linear.name for linear in model.shape.linear_layers()}
    if isinstance(value, list):
        return tuple(sorted({name.rpartition(".")[2] for name in value} & known))
    return tuple(sorted(_fitting(str(value), model) & known))


def missing(model: Outline, value: Value) -> list[str]:
    """The targets that are no layer's name or its end; peft passes over them in silence where another one fits."""
    if isinstance(value, list):
        return [name for name in value if not any(f".{layer}".endswith(f".{name}") for layer in model.layers)]
    return [] if value == ALL or _fitting(str(value), model) else [str(value)]


def _language_layers(model: Outline) -> set[str]:
    names = {linear.name for linear in model.shape.linear_layers()}
    return names - _MLP if model.shape.experts else names


def _fitting(expression: str, model: Outline) -> set[str]:
    """Ends of the names that an expression over whole names fits; without weights, names as most models have them."""
    try:
        pattern = re.compile(expression)
    except re.error:
        return set()
    if any("." in layer for layer in model.layers):
        return {layer.rpartition(".")[2] for layer in model.layers if pattern.fullmatch(layer)}
    places = ("", "model.layers.0.self_attn.", "model.layers.0.mlp.", "model.language_model.layers.0.self_attn.")
    return {name for name in model.layers if any(pattern.fullmatch(f"{place}{name}") for place in places)}
