"""Layouts that convert nothing: columns that the user must map, and data that is not for training."""

from __future__ import annotations

from typing import Any

from finetui.data.formats.content import EMPTY
from finetui.data.formats.layout import Layout

_SCORED = (("prompt", "generation"), ("prompt", "generations"), ("answer_id", "choices"), ("model_id", "choices"))
"""Columns of answers that a model gave to be scored."""
OF_A_REGISTRY = frozenset({"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"})
"""Keys of a dataset in LLaMA-Factory's registry."""
_ALONE = ("system", "system_prompt")


def _no_training(row: Any) -> bool:
    """Registries, metrics, word lists, evaluation prompts, system prompts alone, scored generations, bare strings."""
    if type(row) is not dict:
        return type(row) is not list or not any(type(item) is dict for item in row)
    held = [column for column, value in row.items() if value not in EMPTY]
    if "turns" in held or any(all(column in held for column in pair) for pair in _SCORED):
        return True
    return not any(column not in _ALONE and _could_be_said(row[column]) for column in held)


def _could_be_said(value: Any) -> bool:
    """Whether a value could hold a question or an answer: a text, or one in an object, or objects in a list."""
    if type(value) is dict:
        return OF_A_REGISTRY.isdisjoint(value) and any(type(inside) is str for inside in value.values())
    return type(value) is str or (type(value) is list and type(value[0]) is dict)


NO_TRAINING = Layout("not-training-data", _no_training)
TABLE = Layout("table", lambda row: type(row) is dict and bool(row))
