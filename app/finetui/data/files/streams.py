"""Bytes of a source file, decompressed by what they are, and hashed on the way."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from finetui.core.errors import FinetuiError, Problem

BLOCK = 1 << 20
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_ZSTD_BLOCK = 1 << 16
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that reading never gives: rows that are set aside are written while the source is open."""


class _Hashing(io.RawIOBase):
    """A raw file whose bytes pass through SHA-256 as they are read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        if count:
            self.digest.update(buffer[:count])
        return int(count or 0)


class _Unzstd(io.RawIOBase):
    """Zstandard frames one after another; an end inside a frame is an error, as gzip has it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            data = data or self._source.read(_ZSTD_BLOCK)
            if not data:
                if self._begun:
                    raise EOFError("the compressed stream ends early")
                return 0
            self._begun = True
            self._ready = memoryview(self._frame.decompress(data))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


class Source:
    """One open source file: `stream` gives the decompressed bytes, `sha256` and `size` speak of the file's own."""

    def __init__(self, path: Path, name: str) -> None:
        self._raw = cast(BinaryIO, path.open("rb", buffering=0))
        self.size = os.fstat(self._raw.fileno()).st_size
        head = self._raw.read(4)
        self._raw.seek(0)
        self._hashing = _Hashing(self._raw)
        self.name = name
        self.compression = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
        whole: IO[bytes] = io.BufferedReader(self._hashing, BLOCK)
        self._whole = self.stream = whole
        if self.compression == "gzip":
            self.stream = io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=whole)), BLOCK)
        elif self.compression == "zstd":
            self.stream = io.BufferedReader(_Unzstd(whole), BLOCK)

    @property
    def position(self) -> int:
        """Bytes of the file that were read, compressed as they are."""
        return self._raw.tell()

    def sha256(self) -> str:
        """SHA-256 of the file's bytes, reading what is left of it first."""
        while self._whole.read(BLOCK):
            pass
        return self._hashing.digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


@contextmanager
def opened(path: Path, name: str) -> Iterator[Source]:
    """Open a source file for one pass.

    Raises FinetuiError where it cannot be opened or read, or where its compressed stream is broken.
    """
    source: Source | None = None
    try:
        source = Source(path, name)
        yield source
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise FinetuiError(Problem("data.broken-compression", {"error": str(error)}, name)) from error
    except OSError as error:
        if error.errno in _OF_WRITING:
            raise
        raise FinetuiError(Problem("data.unreadable", {"error": error.strerror or str(error)}, name)) from error
    finally:
        if source is not None:
            source.close()
