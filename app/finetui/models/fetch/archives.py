"""Archives unpacked with limits: only plain files and folders, none outside, no more bytes than the disk can take."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.models.fetch.listing import check_names
from finetui.models.fetch.space import free_bytes, in_words

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
_MOST_MEMBERS = 100_000
_RATIO = 200
_RATIO_FREE = 1 << 30
"""An archive may hold 200 times its own bytes, and a small one up to 1 GiB."""
_MOST_AT_ONCE = 16 << 20
"""A header may have as many bytes; it is read as a whole."""
_PACKERS: Mapping[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    ValueError,
    TypeError,
    struct.error,
)
"""What the readers raise where an archive is none, besides OSError without a reason of the system."""
_SLACK = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    """Bytes unpacked, as the archive states them; no more are read."""
    stream: IO[bytes]


def is_archive(name: str) -> bool:
    """Whether a file is one to be unpacked, by its name."""
    return name.lower().endswith(SUFFIXES)


def stem_of(name: str) -> str:
    """A file's name without what says how it is packed."""
    lower = name.lower()
    suffix = max((suffix for suffix in SUFFIXES if lower.endswith(suffix)), key=len, default="")
    return name[: -len(suffix)] if suffix else name.partition(".")[0] or name


def unpack(archive: Path, shown: str, folder: Path) -> Path:
    """Unpack into a fresh folder and say where the files begin: there, or in the one folder around them all.

    Raises FinetuiError (exit 3) for what is no archive, is encrypted, holds links or devices, leads out of the folder
    or holds out of all proportion, (exit 5) where it does not fit on the disk; OSError.
    """
    most = max(_RATIO_FREE, _RATIO * archive.stat().st_size)
    paths: list[str] = []
    total = 0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        for member in _members(archive, shown):
            total += member.size
            if total > most or len(paths) >= _MOST_MEMBERS:
                facts = {"bytes": in_words(total), "packed": in_words(archive.stat().st_size)}
                raise FinetuiError(Problem("fetch.archive-bomb", facts, shown), BAD_INPUT)
            if member.size + _SLACK > (free := free_bytes(folder)):
                facts = {"needed": in_words(member.size + _SLACK), "free": in_words(free)}
                raise FinetuiError(Problem("fetch.disk-full", facts, str(folder)), MACHINE)
            paths.append(member.name)
            check_names([member.name])
            place = folder / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as written:
                shutil.copyfileobj(member.stream, written, _CHUNK)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise FinetuiError(Problem("fetch.archive-twice", {"name": ascii(paths[-1])}, shown), BAD_INPUT) from None
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise FinetuiError(Problem("fetch.archive-broken", {"why": str(error)}, shown), BAD_INPUT) from None
    if not paths:
        raise FinetuiError(Problem("fetch.archive-broken", {"why": "no files"}, shown), BAD_INPUT)
    tops = {path.partition("/")[0] for path in paths}
    return folder / tops.pop() if len(tops) == 1 and all("/" in path for path in paths) else folder


class _Frugal:
    """A stream that gives no more at once than a header may have: a hostile one could ask for all memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        """Raises tarfile.ReadError where too much is wanted."""
        if not 0 <= size <= _MOST_AT_ONCE:
            raise tarfile.ReadError("a header out of all proportion")
        return self._stream.read(size)


def _begin(archive: Path) -> bytes:
    with archive.open("rb") as stream:
        return stream.read(8)


def _unpacked(archive: Path) -> IO[bytes]:
    """The bytes of an archive as they were before they were packed."""
    begin = _begin(archive)
    packer = next((packer for magic, packer in _PACKERS.items() if begin.startswith(magic)), open)
    return cast(IO[bytes], packer(archive, "rb"))


def _members(archive: Path, shown: str) -> Iterator[_Member]:
    """The files in an archive, in its order.

    Raises FinetuiError (exit 3) for anything that is neither file nor folder.
    """
    if _begin(archive).startswith(b"PK"):  # is_zipfile also takes a tar that ends in a zip for one
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = info.external_attr >> 28
                if info.flag_bits & 1 or kind not in (0, 0o4, 0o10):
                    raise FinetuiError(Problem("fetch.archive-link", {"name": ascii(info.filename)}, shown), BAD_INPUT)
                if not info.is_dir():
                    with opened.open(info) as stream:
                        yield _Member(info.filename.removeprefix("./"), info.file_size, stream)
        return
    with _unpacked(archive) as stream, tarfile.open(fileobj=cast(IO[bytes], _Frugal(stream)), mode="r:") as tar:
        for count, entry in enumerate(tar):
            if count > 2 * _MOST_MEMBERS:
                raise tarfile.ReadError("too many folders")
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise FinetuiError(Problem("fetch.archive-link", {"name": ascii(entry.name)}, shown), BAD_INPUT)
            checked = tarfile.data_filter(entry, str(archive.parent))
            content = tar.extractfile(entry)
            assert content is not None
            yield _Member(checked.name.removeprefix("./"), entry.size, content)
