"""A record of any kind as the model will see it: one side, or one for each answer that is weighed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from finetui.core.encode.encoded import NOT_TRAINED, Encoded
from finetui.core.encode.encoder import encode, encode_rows, render
from finetui.core.encode.template import Template
from finetui.core.encode.turns import Span

_ANSWERS = ("chosen", "rejected", "completion")
_STEP_END = "\n"


@dataclass(frozen=True)
class View:
    """One side of a record."""

    side: str
    """`row`, `chosen`, `rejected`, `completion`, `prompt` or `steps`."""
    row: Encoded
    """For `steps` the labels are 1 and 0, the judgement of a step, and not ids."""


def kind_of(record: Mapping[str, Any]) -> str:
    """The kind of a canonical record, told by its keys: chat, preference, feedback, … or `unknown`."""
    kinds = {
        "messages": "chat",
        "segments": "segments",
        "text": "text",
        "input_ids": "tokens",
        "chosen": "preference",
        "completions": "stepwise",
        "completion": "feedback",
        "prompt": "prompts",
    }
    return next((kind for key, kind in kinds.items() if key in record), "unknown")


def encode_views(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> tuple[View, ...]:
    """Every side of one record; of an answer that is weighed, its own turns count and the prompt's do not.

    Raises EncodeError where the template refuses a side, where a turn cannot be located, or where the kind is unknown.
    """
    match kind_of(record):
        case "preference" | "feedback":
            return tuple(_answers(record, tokenizer, template))
        case "prompts":
            return (View("prompt", _prompt(record, tokenizer, template)),)
        case "stepwise":
            return (View("steps", _steps(record, tokenizer, template)),)
        case _:
            return tuple(View("row", row) for row in encode_rows(record, tokenizer, template))


def _answers(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> Iterator[View]:
    asked = [{**message, "train": False} if message["role"] == "assistant" else message for message in record["prompt"]]
    tools = {"tools": record["tools"]} if record.get("tools") else {}
    for side in _ANSWERS:
        if side in record:
            yield View(side, encode({"messages": [*asked, *record[side]], **tools}, tokenizer, template))


def _prompt(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> Encoded:
    """What serving sends; nothing of it is trained."""
    text = render(record["prompt"], template, record.get("tools"), add_generation_prompt=True)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return Encoded(text, ids, [NOT_TRAINED] * len(ids), ())


def _steps(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> Encoded:
    """The prompt and its steps, a line each, as TRL's PRMTrainer has them: a step is judged at the end of its line."""

    def ids_of(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    text = record["prompt"]
    ids = [*([] if template.bos_id is None else [template.bos_id]), *ids_of(text)]
    labels = [NOT_TRAINED] * len(ids)
    spans: list[Span] = []
    steps: Sequence[str] = record["completions"]
    for number, (step, right) in enumerate(zip(steps, record["labels"], strict=True)):
        line = [*ids_of(step), *ids_of(_STEP_END)]
        ids += line
        labels += [*([NOT_TRAINED] * (len(line) - 1)), int(right)]
        spans.append(Span(len(text), len(text) + len(step), number, "right" if right else "wrong"))
        text += step + _STEP_END
    return Encoded(text, ids, labels, tuple(spans))
