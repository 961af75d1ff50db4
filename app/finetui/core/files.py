"""Files written whole or not at all, and digests read in a stream."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_BLOCK = 1 << 20


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises OSError where it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: object) -> str:
    """One line of JSON that is the same for equal values: keys sorted, nothing between, UTF-8 kept."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def pretty_json(value: object) -> str:
    """JSON for a file that people read and `diff` compares: keys sorted, indented by two, newline at the end."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2) + "\n"


def sha256_json(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "backslashreplace")).hexdigest()


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Let an OSError that names no file, as that of a full disk does, or only its `part`, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(part):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Write `path` through `path.part`: flushed, synced and renamed at the end; on any error the old file stays.

    Text is UTF-8; what is none, as in some file names, stands escaped as JSON has it.
    Raises OSError where it cannot be written, after removing the part.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        with naming(path, part):
            with part.open(mode, encoding=encoding, errors=errors) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(NotADirectoryError):
            part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8, atomically."""
    with replacing(path, "w") as stream:
        stream.write(text)


def write_json(path: Path, value: object) -> None:
    """Write `pretty_json(value)`, atomically."""
    write_text(path, pretty_json(value))


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises OSError, or ValueError where it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
