"""Which chat template a model folder gets, and what ends an answer in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date as calendar_date
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from finetui.core.encode.jinja import asks_date, compiled
from finetui.core.encode.reading import Reading, common_prefix, read
from finetui.core.encode.template import Template
from finetui.core.encode.tokenizer import SpecialTokens, read_object, special_tokens
from finetui.core.errors import FinetuiError, Problem

BUILTIN = ("plain", "chatml", "llama2", "alpaca", "vicuna")
_BOS = "{{- bos_token }}"
_CHATML_STOP = "<|im_end|>"


def load_template(folder: Path, tokenizer: Tokenizer, choice: str | None = None, date: str | None = None) -> Template:
    """The template of a model folder; `choice` is the name of a built-in one, of one of the model's own, or a file.

    A model without a template gets `plain`. `date` is `YYYY-MM-DD`, by default today; kept only where it is asked for.
    Raises FinetuiError where the choice is unknown, where it is no Jinja, or where its stop token cannot be learned.
    """
    special = special_tokens(folder)
    own = _own_templates(folder)
    name, source, text = _chosen(choice, own, tokenizer, folder)
    eos = _id(tokenizer, special.named.get("eos_token"), special.eos_ids)
    bos = _id(tokenizer, special.named.get("bos_token"), special.bos_ids)
    named = dict(special.named)
    if source != "model":
        found = {"eos_token": eos, "bos_token": bos}
        named |= {key: token for key, i in found.items() if i is not None and (token := tokenizer.id_to_token(i))}
        if "eos_token" in text and "eos_token" not in named:
            raise FinetuiError(Problem("encode.no-eos", {"template": name}, str(folder)))
    if source == "builtin" and not _writes_bos(tokenizer, bos):
        text = text.replace(_BOS, "")
    tool_use = own.get("tool_use") if source == "model" and name == "default" else None
    dated = asks_date(text) or (tool_use is not None and asks_date(tool_use))
    template = Template(
        name=name,
        source=source,
        text=text,
        special_tokens=named,
        date=(date or calendar_date.today().isoformat()) if dated else None,
        eos_id=eos,
        bos_id=bos,
        pad_id=_id(tokenizer, special.named.get("pad_token"), ()),
        stop_ids=(),
        tool_use=tool_use,
    )
    for jinja in filter(None, (template.text, template.tool_use)):
        compiled(jinja, template.date)
    return replace(template, stop_ids=_stop_ids(template, tokenizer, special))


def _own_templates(folder: Path) -> dict[str, str]:
    """The templates that a model brings, by name, in the order of precedence that transformers has."""
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    for name in ("tokenizer_config.json", "chat_template.json"):
        if found := _named(read_object(folder / name).get("chat_template")):
            return found
    return {}


def _named(value: Any) -> dict[str, str]:
    match value:
        case str():
            return {"default": value}
        case list():
            pairs = [(item.get("name"), item.get("template")) for item in value if isinstance(item, Mapping)]
        case Mapping():
            pairs = list(value.items())
        case _:
            return {}
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}


def _chosen(choice: str | None, own: Mapping[str, str], tokenizer: Tokenizer, folder: Path) -> tuple[str, str, str]:
    """Name, source and text of the template that is to be used."""
    if choice is None and own:
        if "default" in own:
            return "default", "model", own["default"]
        raise FinetuiError(Problem("encode.no-default-template", {"names": ", ".join(own)}, str(folder)))
    choice = choice or "plain"
    if choice in own:
        return choice, "model", own[choice]
    if choice in BUILTIN:
        if choice == "chatml" and tokenizer.token_to_id(_CHATML_STOP) is None:
            raise FinetuiError(Problem("encode.chatml-unknown", {"token": _CHATML_STOP}, str(folder)))
        return choice, "builtin", _read_text(resources.files(__package__) / "builtin" / f"{choice}.jinja")
    path = Path(choice).expanduser()
    if path.is_file():
        return path.name, "file", _read_text(path)
    names = ", ".join([*own, *BUILTIN])
    raise FinetuiError(Problem("encode.unknown-template", {"template": choice, "names": names}))


def _read_text(path: Any) -> str:
    try:
        text: str = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FinetuiError(Problem("encode.bad-template", {"words": str(error), "at": 1}, str(path))) from error
    return text


def _id(tokenizer: Tokenizer, token: str | None, otherwise: tuple[int, ...]) -> int | None:
    found = None if token is None else tokenizer.token_to_id(token)
    if found is not None:
        return found
    return next((i for i in otherwise if tokenizer.id_to_token(i) is not None), None)


def _writes_bos(tokenizer: Tokenizer, bos: int | None) -> bool:
    return bos is not None and tokenizer.encode("a", add_special_tokens=True).ids[:1] == [bos]


def _stop_ids(template: Template, tokenizer: Tokenizer, special: SpecialTokens) -> tuple[int, ...]:
    named = special.named.get("eos_token")
    configured = [tokenizer.token_to_id(named) if named else None, *special.eos_ids]
    written = [i for with_tools in (False, True) for i in _ends_of_turn(read(template, with_tools), tokenizer)]
    stops = [i for i in (*configured, *written) if i is not None and tokenizer.id_to_token(i) is not None]
    return tuple(dict.fromkeys(stops or [i for i in (template.eos_id,) if i is not None]))


def _ends_of_turn(reading: Reading, tokenizer: Tokenizer) -> list[int]:
    """The special tokens that the template closes an answer with, and a tool call.

    What closes an answer follows every answer, so it is the last of those that both the last answer and an earlier one
    are followed by; a template that closes only its last answer with one (gpt-oss) means the first of these.
    """
    last, earlier = _specials_in(reading.tail, tokenizer), _specials_in(reading.after_turn, tokenizer)
    shared = common_prefix(last, earlier)
    return [*(shared[-1:] or last[:1]), *_specials_in(reading.call_tail, tokenizer)[-1:]]


def _specials_in(text: str, tokenizer: Tokenizer) -> list[int]:
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return [i for i in tokenizer.encode(text, add_special_tokens=False).ids if i in special]
