"""Many files at once, by a few threads; the caller's thread tells how far they are and stops them all."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.core.fetched import Part
from finetui.core.files import naming
from finetui.core.jobs import Progress
from finetui.models.digests import digests
from finetui.models.fetch.download import Arrived, Stopped, download, git_sha1
from finetui.models.fetch.http import Client
from finetui.models.fetch.listing import RemoteFile
from finetui.models.fetch.space import check_space, free_bytes, in_words
from finetui.models.fetch.staging import Staging

_AT_ONCE = 4
_TICK_S = 0.25
_PARTING_S = 2.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Transferred:
    """What has come of the files so far."""

    files: dict[str, Part] = field(default_factory=dict)
    """Every whole file by its path."""
    fetched_bytes: int = 0
    """Bytes that came over the network."""
    resumed_bytes: int = 0
    """Bytes of an earlier attempt that were gone on with."""


class Transfer:
    """Bring files into a staging folder."""

    def __init__(self, client: Client, staging: Staging, words: str, on_progress: Progress | None) -> None:
        """`words` are what the person asked for."""
        self._client = client
        self._staging = staging
        self._words = words
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._todo: queue.SimpleQueue[RemoteFile] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[RemoteFile, Arrived | BaseException]] = queue.SimpleQueue()
        self._count = threading.Lock()
        self._done = 0

    def run(self, files: Iterable[RemoteFile], near: Iterable[Path] = ()) -> Transferred:
        """Bring all files in, after a look at the disk: those of earlier attempts, those that are in the folder that
        will be replaced, those that lie in a folder of `near`, the others from the site, the largest first.

        Raises what `download` raises, after the others have stopped; FinetuiError (exit 5) where the disk has no room.
        """
        result = Transferred()
        known = self._staging.whole()
        missing: list[RemoteFile] = []
        for file in files:
            if (part := self._staging.has(file, known)) is not None:
                result.resumed_bytes += part.bytes
            else:
                part = self._linked(file)
            if part is None:
                missing.append(file)
            else:
                self._have(file, part, result)
        needed = sum(max(0, (file.bytes or 0) - self._staging.bytes_of(file)) for file in missing)
        check_space(self._staging.target.parent, needed, self._words)
        coming: list[RemoteFile] = []
        for file in missing:
            if (part := self._copied(file, near)) is not None:
                self._have(file, part, result)
            else:
                coming.append(file)
                self._done += self._staging.bytes_of(file)
        sizes = [file.bytes for file in coming]
        whole = sum(part.bytes for part in result.files.values())
        self._fetch(coming, result, None if None in sizes else whole + sum(size or 0 for size in sizes))
        return result

    def _have(self, file: RemoteFile, part: Part, result: Transferred) -> None:
        result.files[file.path] = part
        self._done += part.bytes

    def _linked(self, file: RemoteFile) -> Part | None:
        """A file of the folder that is about to be replaced, which needs no room; None where it has none."""
        path = self._staging.target / file.path
        if not is_same(path, file, self._on_progress):
            return None
        arrived = self._staging.part(file)
        arrived.unlink(missing_ok=True)
        try:
            os.link(path, arrived)
        except OSError:  # a file system without links: it is copied like any other
            return None
        return self._kept(file, arrived, path)

    def _copied(self, file: RemoteFile, near: Iterable[Path]) -> Part | None:
        """A file of a folder of this machine that has it; None where none has it."""
        for folder in (self._staging.target, *near):
            path = folder / file.path
            if is_same(path, file, self._on_progress):
                arrived = self._staging.part(file)
                with naming(arrived):
                    shutil.copyfile(path, arrived)
                return self._kept(file, arrived, path)
        return None

    def _kept(self, file: RemoteFile, arrived: Path, origin: Path) -> Part:
        part = Part(arrived.stat().st_size, digests([origin])[origin])
        self._staging.keep(file, arrived, part)
        return part

    def _fetch(self, coming: list[RemoteFile], result: Transferred, total: int | None) -> None:
        for file in sorted(coming, key=lambda file: -(file.bytes or 0)):
            self._todo.put(file)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(_AT_ONCE, len(coming)))]
        for thread in threads:
            thread.start()
        try:
            self._report(total)
            for _ in coming:
                file, arrived = self._next(total)
                if isinstance(arrived, BaseException):
                    raise self._explained(arrived, coming, result)
                part = Part(arrived.bytes, arrived.sha256)
                self._staging.keep(file, self._staging.part(file), part)
                result.files[file.path] = part
                result.resumed_bytes += arrived.resumed
                result.fetched_bytes += arrived.bytes - arrived.resumed
        finally:
            self._stop.set()
            deadline = time.monotonic() + _PARTING_S  # one that waits for its server ends by itself, writing nothing
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._report(total)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                file = self._todo.get_nowait()
            except queue.Empty:
                return
            try:
                part = self._staging.part(file)
                self._results.put((file, download(self._client, file, part, self._add, self._stop)))
            except Stopped:
                return
            except BaseException as error:  # carried to the thread that waits for it
                self._results.put((file, error))
                return

    def _next(self, total: int | None) -> tuple[RemoteFile, Arrived | BaseException]:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._results.get(timeout=_TICK_S)
            self._report(total)

    def _add(self, count: int) -> None:
        with self._count:
            self._done += count

    def _report(self, total: int | None) -> None:
        if self._on_progress is not None:
            facts = {"stage": "fetch", "done": self._done, "total": total or 0, "pause": self._client.pausing}
            self._on_progress(facts)

    def _explained(self, error: BaseException, coming: list[RemoteFile], result: Transferred) -> BaseException:
        if not isinstance(error, OSError) or error.errno not in _FULL:
            return error
        missing = [file for file in coming if file.path not in result.files]
        needed = sum(max(0, (file.bytes or 0) - self._staging.bytes_of(file)) for file in missing)
        folder = self._staging.target.parent
        facts = {"needed": in_words(needed), "free": in_words(free_bytes(folder))}
        return FinetuiError(Problem("fetch.disk-full", facts, str(folder)), MACHINE)


def is_same(path: Path, file: RemoteFile, on_progress: Progress | None = None) -> bool:
    """Whether a file on this machine is what the site lists; one of which the site tells no digest never is."""
    try:
        if not path.is_file() or (file.bytes is not None and path.stat().st_size != file.bytes):
            return False
        if file.sha256 is not None:
            return digests([path], on_progress)[path] == file.sha256
        return file.git_sha1 is not None and git_sha1(path) == file.git_sha1
    except OSError:
        return False
