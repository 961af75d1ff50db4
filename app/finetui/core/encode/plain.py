"""Records that no template touches: raw text, text in trained and untrained segments, ids that are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from finetui.core.encode.encoded import NOT_TRAINED, Encoded
from finetui.core.encode.jinja import EncodeError
from finetui.core.encode.template import Template
from finetui.core.encode.turns import Span
from finetui.core.errors import Problem


def encode_text(text: str, tokenizer: Tokenizer, template: Template) -> Encoded:
    """Raw text with the tokenizer's own special tokens and its end-of-text token, all of it trained."""
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=True)  # no offsets: they cost as much again
    ids = encoding.ids
    if template.eos_id is not None and (not ids or ids[-1] != template.eos_id):
        ids = [*ids, template.eos_id]
    return Encoded(text, ids, list(ids), (Span(0, len(text), 0, "text"),))


def encode_segments(segments: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> Encoded:
    """Exactly these texts, trained where `label` is true; each tokenised by itself, as axolotl does and serving would.

    Nothing is added: beginning and end of text stand in the segments.
    """
    ids: list[int] = []
    labels: list[int] = []
    spans: list[Span] = []
    at = 0
    for number, segment in enumerate(segments):
        text = segment["text"]
        found = tokenizer.encode(text, add_special_tokens=False).ids
        ids += found
        labels += found if segment["label"] else [NOT_TRAINED] * len(found)
        if segment["label"] and text:
            spans.append(Span(at, at + len(text), number, "text"))
        at += len(text)
    return Encoded("".join(segment["text"] for segment in segments), ids, labels, tuple(spans))


def encode_tokens(record: Mapping[str, Any], tokenizer: Tokenizer) -> Encoded:
    """Ids and labels as they came, without the padding that an attention mask leaves out at either end.

    Raises EncodeError where the tokenizer has no such id, or where ids and labels are not as many.
    """
    ids, labels = list(record["input_ids"]), list(record["labels"])
    mask = record.get("attention_mask") or [1] * len(ids)
    if not len(ids) == len(labels) == len(mask):
        raise EncodeError(Problem("encode.uneven-ids", {"ids": len(ids), "labels": len(labels), "mask": len(mask)}))
    seen = [index for index, weight in enumerate(mask) if weight]
    part = slice(seen[0], seen[-1] + 1) if seen else slice(0, 0)
    ids, labels = ids[part], labels[part]
    if unknown := [i for i in set(ids) if i < 0 or tokenizer.id_to_token(i) is None]:
        raise EncodeError(Problem("encode.unknown-id", {"id": min(unknown), "size": tokenizer.get_vocab_size()}))
    return Encoded(tokenizer.decode(ids, skip_special_tokens=False), ids, labels, ())
