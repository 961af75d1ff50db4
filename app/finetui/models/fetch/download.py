"""One file: what is there of it is gone on with, what comes is held against what the site has said of it."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from finetui.core.errors import MISMATCH, FinetuiError, Problem
from finetui.core.files import naming
from finetui.models.fetch.http import NO_ENTRY, Broken, Client, Patience, Refused, reading
from finetui.models.fetch.listing import RemoteFile

Report = Callable[[int], None]
"""Is told how many bytes have come since it was told last; below zero where some were thrown away."""
_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_HTML = (".html", ".htm", ".xhtml")


class Stopped(Exception):
    """Somebody has stopped this download; what has come stays."""


@dataclass(frozen=True)
class Arrived:
    """A file that has come whole, lying in its part."""

    bytes: int
    sha256: str
    resumed: int
    """Bytes that were there before."""


def download(client: Client, file: RemoteFile, part: Path, report: Report, stop: threading.Event) -> Arrived:
    """Bring `part` to the whole file, from where it ends, and hold it against size and digest.

    Raises Broken where the connection keeps breaking (the part stays), Refused, Stopped, OSError, and FinetuiError
    (exit 4) where the site sends other bytes than it has promised (the part is removed).
    """
    with _Part(part, file) as there:
        resumed = there.size
        report(resumed - there.found)
        for chance in (1, 2):  # a proxy may have spoilt the bytes once
            patience = Patience(client)
            while not there.is_whole:
                before = there.size
                try:
                    _attempt(client, file, there, report, stop)
                except Broken as broken:
                    if there.size > before:
                        patience.renew()
                    patience.spend(broken)
            there.sync()
            if (problem := _fault(file, there)) is None:
                return Arrived(there.size, there.sha256, resumed)
            if chance == 2:
                there.remove()
                raise FinetuiError(problem, MISMATCH)
            report(-there.size)
            there.restart()
            resumed = 0
    raise AssertionError("the second chance ends above")


class _Part:
    """The file as far as it has come, the running digest of it, and what marks the version that it is of."""

    def __init__(self, path: Path, file: RemoteFile) -> None:
        self._path = path
        self._mark = path.with_name(f"{path.name}.etag")
        self._digest = hashlib.sha256()
        self._stream = path.open("ab+")
        self._known = bool(file.sha256 or file.git_sha1)
        self.size = 0
        self.is_whole = False
        self.validator = self._mark.read_text(encoding="utf-8") if self._mark.is_file() else ""
        """An ETag or date by which the server tells whether the file is still the same; empty where a digest does."""
        self._stream.seek(0)
        while block := self._stream.read(_CHUNK):
            self._digest.update(block)
            self.size += len(block)
        self.found = self.size
        """Bytes that lay there, of use or not."""
        too_long = file.bytes is not None and self.size > file.bytes
        if too_long or not self.can_go_on:
            self.restart()
        self.is_whole = self.size == file.bytes

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def can_go_on(self) -> bool:
        """Whether anything will tell that what comes next is of another version than what is there."""
        return self._known or bool(self.validator)

    @property
    def sha256(self) -> str:
        """Of what is there."""
        return self._digest.hexdigest()

    def git_sha1(self) -> str:
        """The id that git gives to what is there."""
        return git_sha1(self._path)

    def write(self, block: bytes) -> None:
        """Add what has come."""
        with naming(self._path):
            self._stream.write(block)
        self._digest.update(block)
        self.size += len(block)

    def sync(self) -> None:
        """Let it be on the disk: it is about to be called whole."""
        with naming(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def restart(self) -> None:
        """Forget all that has come."""
        self._stream.seek(0)
        self._stream.truncate()
        self._digest = hashlib.sha256()
        self.size = 0
        self.is_whole = False

    def remember(self, headers: Mapping[str, str]) -> None:
        """Keep what marks the version that these bytes are of."""
        if not self._known:
            self.validator = _validator(headers)
            self._mark.write_text(self.validator, encoding="utf-8")

    def remove(self) -> None:
        """Take it away."""
        self._path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)


def git_sha1(path: Path) -> str:
    """The id that git gives to a blob with the content of a file.

    Raises OSError where it cannot be read.
    """
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _attempt(client: Client, file: RemoteFile, part: _Part, report: Report, stop: threading.Event) -> None:
    """One request, and what comes of it.

    Raises Broken where it ends before the file does, Refused, Stopped, FinetuiError where it cannot be this file.
    """
    if stop.is_set():
        raise Stopped
    if part.size and not part.can_go_on:
        report(-part.size)
        part.restart()
    headers: dict[str, str] = {}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator:
            headers["If-Range"] = part.validator
    try:
        with client.get(file.address, headers) as response:
            total = _start(response, file, part, report)
            with reading(response.url.host):
                for block in response.iter_bytes():
                    if stop.is_set():
                        raise Stopped
                    if total is not None and (longer := part.size + len(block)) > total:
                        part.restart()
                        raise FinetuiError(_wrong_size(file, response, longer, total), MISMATCH)
                    part.write(block)
                    report(len(block))
            if total is not None and part.size < total:
                raise Broken("the connection was closed early", host=response.url.host)
            part.is_whole = True
    except Refused as refused:
        if refused.status == 404 and not refused.code:  # it is listed, so the name is not what is wrong
            raise Refused(404, refused.host, NO_ENTRY, refused.words) from None
        if refused.status != 416 or not part.size:
            raise
        report(-part.size)  # the file ends before what we have of it: that was of another one
        part.restart()
        raise Broken("HTTP 416", host=refused.host, status=416) from None


def _start(response: httpx.Response, file: RemoteFile, part: _Part, report: Report) -> int | None:
    """Look at the head of an answer, forget the part where the answer begins at the first byte, and say how long the
    file is; None where nobody knows.

    Raises Broken, FinetuiError where it cannot be this file.
    """
    host, headers = response.url.host, response.headers
    if headers.get("content-type", "").lower().startswith("text/html") and not file.name.lower().endswith(_HTML):
        raise FinetuiError(Problem("fetch.html", {"name": file.path, "host": host}), MISMATCH)
    begin, stated = 0, _length(headers)
    if response.status_code == 206:
        found = _RANGE.fullmatch(headers.get("content-range", "").strip())
        other = part.validator and _validator(headers) not in ("", part.validator)
        if found is None or int(found[1]) != part.size or other or _is_encoded(headers):
            report(-part.size)
            part.restart()
            raise Broken("an answer to another range", host=host, status=206)
        begin, stated = part.size, None if found[3] == "*" else int(found[3])
    if file.bytes is not None and stated is not None and stated != file.bytes:
        raise FinetuiError(_wrong_size(file, response, stated, file.bytes), MISMATCH)
    if begin == 0:
        if part.size:
            report(-part.size)
            part.restart()
        part.remember(headers)
    return file.bytes if file.bytes is not None else stated


def _length(headers: Mapping[str, str]) -> int | None:
    """How long a whole answer says that the file is; an encoded one speaks of other bytes."""
    if _is_encoded(headers):
        return None
    value = headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _validator(headers: Mapping[str, str]) -> str:
    """What an answer says of its version; nothing where only the same bytes in another encoding would bear it."""
    tag = headers.get("etag", "")
    if _is_encoded(headers):
        return ""
    return tag if tag and not tag.startswith("W/") else headers.get("last-modified", "")


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "identity") != "identity"


def _fault(file: RemoteFile, part: _Part) -> Problem | None:
    """What is wrong with a whole file."""
    expected, actual = file.sha256, part.sha256
    if expected is None and file.git_sha1 is not None:
        expected, actual = file.git_sha1, part.git_sha1()
    if expected is None or expected == actual:
        return None
    return Problem("fetch.wrong-digest", {"name": file.path, "expected": expected, "actual": actual})


def _wrong_size(file: RemoteFile, response: httpx.Response, actual: int, expected: int) -> Problem:
    facts = {"name": file.path, "host": response.url.host, "actual": actual, "expected": expected}
    return Problem("fetch.wrong-size", facts)
