"""Layouts that convert nothing: columns that the user must map, and data that is not for training."""

from __future__ import annotations

from typing import Any

from finetui.data.formats.layout import Layout

_REGISTRY = frozenset({"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"})
_SCORED = (("prompt", "generation"), ("prompt", "generations"), ("answer_id", "choices"), ("model_id", "choices"))


def _no_training(row: Any) -> bool:
    """Registries, metrics, word lists, evaluation prompts, system prompts alone, scored generations, bare strings."""
    if type(row) is not dict:
        return type(row) is not list or not any(type(item) is dict for item in row)
    held = {column: value for column, value in row.items() if value not in (None, "", [], {})}
    if "turns" in held or any(all(column in held for column in pair) for pair in _SCORED):
        return True
    if not _REGISTRY.isdisjoint(held) or set(held) in ({"system_prompt"}, {"system"}):
        return True
    return not any(_could_be_told(value) for value in held.values())


def _could_be_told(value: Any) -> bool:
    """Whether a value could hold a question or an answer: text, or objects in a list."""
    return type(value) is str or (type(value) is list and bool(value) and type(value[0]) is dict)


NO_TRAINING = Layout("not-training-data", _no_training, "nothing that could be a question or an answer")
TABLE = Layout("table", lambda row: type(row) is dict and bool(row), "columns of no known layout")
