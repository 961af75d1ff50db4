"""Lines written to a file in large blocks, whole or not at all, and hashed on the way."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from finetui.core.files import replacing
from finetui.data.files.streams import BLOCK


class HashedFile(io.RawIOBase):
    """A file whose bytes pass through SHA-256 as they are written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.lines = io.BufferedWriter(cast(io.RawIOBase, self), BLOCK)
        """Where the lines are written to."""

    def writable(self) -> bool:
        return True

    def write(self, block: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        self._digest.update(block)
        return self._stream.write(block)

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written; complete once the file is closed."""
        return self._digest.hexdigest()


@contextmanager
def hashed_file(path: Path) -> Iterator[HashedFile]:
    """Write `path` through `path.part`, as `replacing` does.

    Raises OSError where it cannot be written, after removing the part.
    """
    with replacing(path) as stream:
        written = HashedFile(stream)
        try:
            yield written
            written.lines.flush()
        finally:
            written.close()  # without it, lines that wait after an error would be written when they are collected
