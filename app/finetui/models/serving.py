"""What a merged model's folder needs so that serving ends and renders its turns as training did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetui.core.files import read_json, write_json, write_text

_GENERATION = "generation_config.json"
_EOS = "eos_token_id"


def write_stop_ids(folder: Path, trained: Sequence[int] = ()) -> None:
    """See to it that generation_config.json names the stop ids, those that were trained among them.

    A file that already does is left as it is, byte for byte; so is one where nobody knows a stop id.
    """
    path = folder / _GENERATION
    config: dict[str, Any] = read_json(path) if path.is_file() else {}
    present = _as_list(config.get(_EOS)) or _declared(folder)
    wanted = present + [stop for stop in trained if stop not in present]
    if wanted and wanted != _as_list(config.get(_EOS)):
        write_json(path, {**config, _EOS: wanted[0] if len(wanted) == 1 else wanted})


def write_template(folder: Path, text: str) -> None:
    """Give the model the chat template that it was trained with."""
    write_text(folder / "chat_template.jinja", text)


def _declared(folder: Path) -> list[int]:
    """The stop ids of config.json, else the id of the tokenizer's end-of-sequence token."""
    config = read_json(folder / "config.json")
    text_config = config.get("text_config")
    for table in (config, text_config if isinstance(text_config, dict) else {}):
        if stops := _as_list(table.get(_EOS)):
            return stops
    settings, tokenizer = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not settings.is_file() or not tokenizer.is_file():
        return []
    token = read_json(settings).get("eos_token")
    content = token.get("content") if isinstance(token, dict) else token
    added = read_json(tokenizer).get("added_tokens", [])
    return [entry["id"] for entry in added if entry.get("content") == content][:1]


def _as_list(value: object) -> list[int]:
    if isinstance(value, int):
        return [value]
    return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []
