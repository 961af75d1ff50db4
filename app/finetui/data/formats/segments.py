"""Layout `segments`: axolotl's input_output, a text in pieces, each of them trained or not, without a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.formats.chat import meta_of
from finetui.data.formats.layout import Adapter, Layout
from finetui.data.formats.rows import checked
from finetui.data.problems import Note, RowProblem, Saying, unfit

_USED = frozenset({"segments", "text"})


def _recognise(row: Any) -> bool:
    pieces = row.get("segments") if type(row) is dict else None
    return (
        type(pieces) is list and bool(pieces) and all(type(p) is dict and {"text", "label"} <= p.keys() for p in pieces)
    )


def _fit(rows: Sequence[Any]) -> Adapter:
    return Adapter({"segments": "segments[label, text]"}, Saying("detect.cue-segments"), _convert)


def _convert(row: Any, notes: list[Note]) -> dict[str, Any]:
    pieces = checked(row, ("segments",))["segments"]
    if type(pieces) is not list:
        raise unfit(pieces, "segments")
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
        raise unfit(piece, where)
    for key, kind in (("label", bool), ("text", str)):
        if key not in piece:
            raise RowProblem("missing-key", f"{where}.{key}")
        if type(piece[key]) is not kind:
            raise unfit(piece[key], f"{where}.{key}")
    return {"label": piece["label"], "text": piece["text"]}


LAYOUT = Layout("segments", _recognise, "sft", _fit)
