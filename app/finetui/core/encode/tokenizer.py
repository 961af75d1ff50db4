"""A model folder's tokenizer, with the special tokens that its configuration names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from finetui.core.errors import FinetuiError, Problem

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_SLOW = ("tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_OTHER_SLOW = (".tiktoken",)


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of one model folder."""

    named: Mapping[str, str]
    """`bos_token`, `eos_token` and their like, as templates see them."""
    extra: tuple[str, ...]
    """Others that are special."""
    added: tuple[Mapping[str, Any], ...]
    """`added_tokens_decoder` of the configuration, by id."""
    eos_ids: tuple[int, ...]
    """What the generation config, or else the model's config, calls the end."""
    bos_ids: tuple[int, ...]
    """The same for the beginning."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a model folder, without truncation or padding.

    Raises FinetuiError where there is none, where only a slow one is there, or where a file is not what it should be.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        slow = sorted(p.name for p in folder.glob("*") if p.name in _SLOW or p.name.endswith(_OTHER_SLOW))
        problem = Problem("encode.slow-tokenizer", {"found": ", ".join(slow)}, str(folder))
        raise FinetuiError(problem if slow else Problem("encode.no-tokenizer", file=str(folder)))
    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot read
        raise FinetuiError(Problem("encode.bad-tokenizer", {"words": str(error)}, str(path))) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _add_missing(tokenizer, special_tokens(folder))
    return tokenizer


def special_tokens(folder: Path) -> SpecialTokens:
    """The special tokens that a model folder's configuration names; strings and objects with `content` are read alike.

    Raises FinetuiError where a file is not a JSON object.
    """
    config = read_object(folder / "tokenizer_config.json")
    if not config.get("added_tokens_decoder"):
        config = {**config, **read_object(folder / "special_tokens_map.json")}
    named = {key: token for key in _NAMED if (token := _content(config.get(key))) is not None}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    others = [value for key, value in config.items() if key.endswith("_token") and key not in _NAMED]
    values = [*(extra.values() if isinstance(extra, dict) else extra), *others]
    added = config.get("added_tokens_decoder")
    return SpecialTokens(
        named=named,
        extra=tuple(token for value in values if (token := _content(value)) is not None),
        added=tuple(token for _, token in sorted(_by_id(added if isinstance(added, dict) else {}))),
        eos_ids=_ids(folder, "eos_token_id"),
        bos_ids=_ids(folder, "bos_token_id"),
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file.

    Raises FinetuiError where it is something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise FinetuiError(Problem("encode.bad-json", {"words": str(error)}, str(path))) from error
    if not isinstance(value, dict):
        raise FinetuiError(Problem("encode.bad-json", {"words": f"a JSON {type(value).__name__}"}, str(path)))
    return value


def _add_missing(tokenizer: Tokenizer, special: SpecialTokens) -> None:
    """Make special what the configuration calls so: a token in the vocabulary alone would be cut into pieces."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    added = [_added_token(token) for token in special.added if token["content"] not in known]
    known |= {token.content for token in added}
    names = dict.fromkeys([*special.named.values(), *special.extra])
    tokenizer.add_tokens([*added, *(AddedToken(name, special=True) for name in names if name not in known)])


def _added_token(token: Mapping[str, Any]) -> AddedToken:
    flags = {
        key: bool(token[key]) for key in ("single_word", "lstrip", "rstrip", "normalized", "special") if key in token
    }
    return AddedToken(str(token["content"]), **flags)


def _by_id(added: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    return [
        (int(key), token)
        for key, token in added.items()
        if key.isdecimal() and isinstance(token, dict) and isinstance(token.get("content"), str)
    ]


def _content(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _ids(folder: Path, key: str) -> tuple[int, ...]:
    for name in ("generation_config.json", "config.json"):
        value = read_object(folder / name).get(key)
        ids = value if isinstance(value, list) else [value]
        if found := tuple(item for item in ids if isinstance(item, int) and not isinstance(item, bool)):
            return found
    return ()
