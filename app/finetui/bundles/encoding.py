"""Records become rows, in order, in several processes where there are records enough."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from finetui.bundles.rows import Row
from finetui.core.encode import EncodeError, Template, encode_rows
from finetui.core.files import canonical_json
from finetui.core.parallel import in_order

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Record = Mapping[str, Any]
PartRecord = tuple[str, Record]
"""What a record is for, `train`, `validation` or `test`, and the record."""
Encodings = list[tuple[list[int], list[int]]] | EncodeError
"""Ids and labels of each row of a record, or why the template refuses it."""
_PIECE_CHARACTERS = 1 << 18


def encoded_parts(
    records: Iterable[PartRecord], tokenizer: Tokenizer, template: Template, processes: int = 1
) -> Iterator[tuple[str, list[Row] | EncodeError]]:
    """What each record is for, and its rows, mostly one, or why the template refuses it; in order.

    Raises what the records raise, and FinetuiError where the template does not come to an end.
    """
    waiting: deque[tuple[list[str], list[str]]] = deque()

    def texts() -> Iterator[list[str]]:
        for piece in _pieces(records):
            waiting.append(piece)
            yield piece[1]

    for answers in in_order(partial(_encoder, tokenizer, template), texts(), processes):
        for part, text, found in zip(*waiting.popleft(), answers, strict=True):
            rows = found if isinstance(found, EncodeError) else [Row(text, ids, labels) for ids, labels in found]
            yield part, rows


def _pieces(records: Iterable[PartRecord]) -> Iterator[tuple[list[str], list[str]]]:
    """What some records are for, and their canonical JSON."""
    parts: list[str] = []
    texts: list[str] = []
    size = 0
    for part, record in records:
        parts.append(part)
        texts.append(canonical_json({key: value for key, value in record.items() if not key.startswith("_")}))
        size += len(texts[-1])
        if size >= _PIECE_CHARACTERS:
            yield parts, texts
            parts, texts, size = [], [], 0
    if texts:
        yield parts, texts


def _encoder(tokenizer: Tokenizer, template: Template) -> Callable[[Sequence[str]], list[Encodings]]:
    def encode(text: str) -> Encodings:
        try:
            return [(row.input_ids, row.labels) for row in encode_rows(json.loads(text), tokenizer, template)]
        except EncodeError as error:
            return error

    return lambda texts: [encode(text) for text in texts]
