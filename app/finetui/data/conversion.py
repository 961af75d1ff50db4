"""`convert`: the same pass, with data.jsonl, rejected.jsonl and report.json written whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

import orjson

from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import replacing, write_json
from finetui.data.choose.choosing import EVERYTHING, Choosing
from finetui.data.choose.decide import Count
from finetui.data.choose.parts import write_parts
from finetui.data.choose.report import report, warnings
from finetui.data.choose.selection import Selection
from finetui.data.reader import Progress, Rejected, open_input
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.results import Conversion, Inspection
from finetui.data.sources.find import Spec
from finetui.data.sources.found import PART_FILES, TRAIN

_ROWS = (*PART_FILES.values(), "rejected.jsonl")
_REPORT = "report.json"


def convert(
    specs: Sequence[Spec],
    out: Path,
    reading: Reading = AS_DETECTED,
    choosing: Choosing = EVERYTHING,
    *,
    evaluation: Sequence[Spec] = (),
    count: Count | None = None,
    accept_rejected: bool = False,
    on_progress: Progress | None = None,
) -> Conversion:
    """Convert the data that `specs` name into the folder `out`; data that is no training data gets report.json alone.

    `evaluation` names data for evaluation alone; `count` counts tokens where rows are chosen by them.

    Raises FinetuiError where a file cannot be read to its end, or would be written over, or where what was asked
    cannot be had of these rows; OSError where `out` cannot be written.
    """
    read = open_input(specs, reading, evaluation)
    read.on_progress = on_progress
    written = [out / name for name in (*_ROWS, _REPORT)]
    if eaten := [file for file in read.files if any(_is_same(file.file.path, path) for path in written)]:
        raise FinetuiError(Problem("data.out-is-input", {"out": str(out)}, report.file.name) for report in eaten)
    out.mkdir(parents=True, exist_ok=True)
    if not read.converts:
        for _ in read.lines():
            pass
        _remove_earlier(out, ())
        conversion = Conversion(Inspection(read), out, None, accept_rejected)
    else:
        conversion = _write(Selection([read], choosing, count), out, accept_rejected)
    write_json(out / _REPORT, conversion.to_json())
    return conversion


def _write(selection: Selection, out: Path, accept_rejected: bool) -> Conversion:
    with replacing(out / "rejected.jsonl") as rejected:
        parts = write_parts(selection, out, lambda row: _put(row, rejected))
    _remove_earlier(out, [*(part.name for part in parts.values()), "rejected.jsonl"])
    splits = {name: part.to_json() for name, part in parts.items()}
    return Conversion(
        Inspection(selection.inputs[0]),
        out,
        splits[TRAIN]["sha256"],
        accept_rejected,
        splits,
        report(selection),
        warnings(selection),
    )


def _remove_earlier(out: Path, written: Collection[str]) -> None:
    """Remove what an earlier conversion has left there and this one has not written again."""
    if (out / _REPORT).is_file():
        for name in _ROWS:
            if name not in written:
                (out / name).unlink(missing_ok=True)


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _put(row: Rejected, stream: IO[bytes]) -> None:
    raw = row.raw.decode("utf-8", "backslashreplace")
    told = {**row.place.to_json(), "code": row.code, "detail": row.detail, "raw": raw}
    stream.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
