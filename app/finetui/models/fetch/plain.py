"""A file of the web, or an archive of a model or of data: named by its address, known by nothing but its bytes."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem, ShellWords
from finetui.core.fetched import DATASET, MODEL, Manifest, Part, is_hub_id, read_manifest
from finetui.core.files import sha256_file
from finetui.core.jobs import Progress
from finetui.core.locks import alone
from finetui.models.digests import remember
from finetui.models.fetch.archives import is_archive, stem_of, unpack
from finetui.models.fetch.http import Broken, Client, Patience
from finetui.models.fetch.listing import RemoteFile, check_names
from finetui.models.fetch.local import default_place, intact
from finetui.models.fetch.outcome import Fetched, Request
from finetui.models.fetch.reference import without_secrets
from finetui.models.fetch.staging import Staging
from finetui.models.fetch.transfer import Transfer
from finetui.models.identify import CONFIG


def fetch_plain(client: Client, address: str, request: Request, on_progress: Progress | None) -> Fetched:
    """Have the file at an address, an archive unpacked; what was fetched from there before stays.

    Raises Broken, Refused, FinetuiError.
    """
    source = without_secrets(address)
    parts = urlsplit(address)
    name = unquote(parts.path).rstrip("/").rpartition("/")[2]
    if not name:
        raise FinetuiError(Problem("fetch.no-file-name", {"address": source}), BAD_INPUT)
    check_names([name])
    stem = _tidy(stem_of(name), parts.query)
    kinds = [DATASET] if request.dataset else [MODEL, DATASET]
    targets = [request.out] if request.out else [default_place(stem, kind, None) for kind in kinds]
    staging = Staging(request.out or default_place(stem, DATASET, None))
    staging.target.parent.mkdir(parents=True, exist_ok=True)

    def tell(holder: int | None) -> None:
        if on_progress is not None:
            on_progress({"stage": "fetch-wait", "pid": holder or 0})

    with alone(staging.lock, tell):
        for target in targets:
            if found := _already(target, source, on_progress):
                return found
        file = _look(client, address, name)
        staging.open()
        result = Transfer(client, staging, ShellWords("'ADDRESS'"), on_progress).run([file])
        files = _unpacked(staging, file, source) if is_archive(name) else result.files
        kind = MODEL if CONFIG in files and not request.dataset else DATASET
        target = request.out or default_place(stem, kind, None)
        _already(target, source, on_progress)
        path = staging.publish(Manifest(source, "url", kind, None, True, files), target)
    remember({path / name: part.sha256 for name, part in files.items()})
    return Fetched(path, kind, source, "url", None, files, result.fetched_bytes, result.resumed_bytes)


def _already(target: Path, source: str, on_progress: Progress | None) -> Fetched | None:
    """What was fetched from the same address before.

    Raises FinetuiError (exit 3) where something else is there.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    manifest = read_manifest(target)
    if manifest is None or manifest.source != source:
        raise FinetuiError(Problem("fetch.taken", {"name": source}, str(target)), BAD_INPUT)
    if intact(target, on_progress) is None:
        return None
    note = Problem("fetch.note-address", {"folder": str(target)})
    return Fetched(target, manifest.kind, source, "url", None, manifest.files, already=True, notes=(note,))


def _look(client: Client, address: str, name: str) -> RemoteFile:
    """How long the file is, where the server says it."""
    patience = Patience(client)
    while True:
        try:
            with client.get(address) as response:
                length = response.headers.get("content-length", "")
                plain = response.headers.get("content-encoding", "identity") == "identity"
                return RemoteFile(name, address, int(length) if plain and length.isdecimal() else None)
        except Broken as broken:
            patience.spend(broken)


def _unpacked(staging: Staging, file: RemoteFile, shown: str) -> dict[str, Part]:
    """Put what an archive holds into its place."""
    archive = staging.folder / file.path
    root = unpack(archive, shown, staging.scratch)
    archive.unlink()
    for child in root.iterdir():
        os.replace(child, staging.folder / child.name)
    files: dict[str, Part] = {}
    for path in sorted(staging.folder.rglob("*")):
        inside = path.relative_to(staging.folder)
        if path.is_file() and inside.parts[0] not in (".parts", ".fetched.jsonl"):
            files[inside.as_posix()] = Part(path.stat().st_size, sha256_file(path))
    return files


def _tidy(stem: str, query: str) -> str:
    """A stem as the name of a folder that `--data` and `--model` take; what a query asks for has its own."""
    tidy = re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.")
    tidy = tidy if is_hub_id(tidy) else "fetched-" + hashlib.sha256(stem.encode()).hexdigest()[:8]
    return f"{tidy}-{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else tidy
