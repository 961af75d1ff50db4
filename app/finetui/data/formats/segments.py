"""Layout `segments`: axolotl's input_output, a text in pieces, each of them trained or not, without a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import meta_of
from finetui.data.formats.content import refuse_media
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.problems import Note, RowProblem, Saying, excerpt

_USED = frozenset({"segments", "text"})


def _recognise(row: Any) -> bool:
    pieces = row.get("segments") if type(row) is dict else None
    return (
        type(pieces) is list and bool(pieces) and all(type(p) is dict and {"text", "label"} <= p.keys() for p in pieces)
    )


def _fit(rows: Sequence[Any]) -> Adapter:
    return Adapter({"segments": "segments[label, text]"}, Saying("detect.cue-segments"), _convert)


def _convert(row: Any, notes: list[Note]) -> dict[str, Any]:
    if type(row) is not dict:
        raise RowProblem("not-an-object", excerpt(row))
    if "segments" not in row:
        raise RowProblem("missing-key", f"segments (columns: {excerpt(', '.join(row))})")
    refuse_media(row)
    pieces = row["segments"]
    if type(pieces) is not list:
        raise RowProblem("null-content" if pieces is None else "wrong-type", f"segments: {excerpt(pieces)}")
    segments = [_piece(piece, f"segments[{number}]") for number, piece in enumerate(pieces)]
    segments = [segment for segment in segments if segment["text"]]
    text = "".join(segment["text"] for segment in segments)
    if not text.strip():
        raise RowProblem("no-assistant", f"segments: {len(pieces)}")
    if not any(segment["label"] for segment in segments):
        notes.append(("no-trained-token", f"segments: {len(segments)}"))
    record: dict[str, Any] = {"text": text, "segments": segments}
    if meta := meta_of(row, _USED):
        record["meta"] = meta
    return record


def _piece(piece: Any, where: str) -> dict[str, Any]:
    """A piece's label and text.

    Raises RowProblem where it is to be set aside.
    """
    if type(piece) is not dict:
        raise RowProblem("null-content" if piece is None else "wrong-type", f"{where}: {excerpt(piece)}")
    for key, kind in (("label", bool), ("text", str)):
        if key not in piece:
            raise RowProblem("missing-key", f"{where}.{key}")
        if type(piece[key]) is not kind:
            code = "null-content" if piece[key] is None else "wrong-type"
            raise RowProblem(code, f"{where}.{key}: {excerpt(piece[key])}")
    return {"label": piece["label"], "text": piece["text"]}


LAYOUT = Layout("segments", _recognise, "sft", _fit)
