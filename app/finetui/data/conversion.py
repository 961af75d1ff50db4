"""`convert`: the same pass, with data.jsonl, rejected.jsonl and report.json written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import orjson

from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import replacing, write_json
from finetui.data.reader import Input, Rejected, open_input
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.results import Conversion, Inspection
from finetui.data.sources import Spec

_WRITTEN = ("data.jsonl", "rejected.jsonl", "report.json")


def convert(
    specs: Sequence[Spec], out: Path, reading: Reading = AS_DETECTED, *, accept_rejected: bool = False
) -> Conversion:
    """Convert the data that `specs` name into the folder `out`; data that is no training data gets report.json alone.

    Raises FinetuiError where a file cannot be read to its end, or would be written over; OSError where `out` cannot be
    written.
    """
    read = open_input(specs, reading)
    written = [out / name for name in _WRITTEN]
    if eaten := [file for file in read.files if any(_is_same(file.file.path, path) for path in written)]:
        raise FinetuiError(Problem("data.out-is-input", {"out": str(out)}, report.file.name) for report in eaten)
    out.mkdir(parents=True, exist_ok=True)
    sha256 = None
    if read.converts:
        sha256 = _write(read, out)
    else:
        for _ in read.read():
            pass
        for name in _WRITTEN[:2]:
            if (out / "report.json").is_file():  # of an earlier conversion, which this report replaces
                (out / name).unlink(missing_ok=True)
    conversion = Conversion(Inspection(read), out, sha256, accept_rejected)
    write_json(out / "report.json", conversion.to_json())
    return conversion


def _write(read: Input, out: Path) -> str:
    digest = hashlib.sha256()
    with replacing(out / "rejected.jsonl") as rejected, replacing(out / "data.jsonl") as data:
        write, update = data.write, digest.update
        for record in read.read(lambda row: _put(row, rejected)):
            write(record.line)
            update(record.line)
    return digest.hexdigest()


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _put(row: Rejected, stream: IO[bytes]) -> None:
    raw = row.raw.decode("utf-8", "backslashreplace")
    told = {**row.place.to_json(), "code": row.code, "detail": row.detail, "raw": raw}
    stream.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
