"""The hub of Hugging Face, and mirrors of it: what a repository holds, and what its refusals mean.

Facts of the interface as in huggingface_hub 1.33: `api/models/ID/revision/REVISION?blobs=true` tells commit, sizes,
LFS digests and blob ids; `ID/resolve/COMMIT/PATH` gives a file, most often by a redirect to storage.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.core.fetched import DATASET, MODEL, is_hub_id
from finetui.models.fetch.http import NO_ENTRY, Client, Refused
from finetui.models.fetch.listing import Listing, RemoteFile
from finetui.models.fetch.reference import Reference
from finetui.models.fetch.sites import Site

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def list_hub(client: Client, asked: Reference) -> Listing:
    """The repository that was asked for; where nobody said whether it is a model or a dataset, the hub says it.

    Raises Refused where there is none or it is not for everybody, Broken, FinetuiError (exit 5) where no hub answers.
    """
    kinds = [asked.kind] if asked.kind else [MODEL, DATASET]
    revision = quote(asked.revision or "main", safe="")
    for kind in kinds:
        address = f"{client.site.endpoint}/api/{kind}s/{asked.name}/revision/{revision}?blobs=true"
        try:
            return _read(client.json(address)[0], client.site, asked, kind)
        except Refused as refused:
            if kind == kinds[-1] or not _is_absent(refused):
                raise
    raise AssertionError("the last kind returns or raises")


def explain_hub(refused: Refused, site: Site, name: str, kind: str, revision: str | None) -> Problem:
    """A refusal of the hub in words: what is missing, where to ask for it, how to log in."""
    facts = {
        "name": name,
        "host": site.host,
        "page": page_of(site.endpoint, name, kind),
        "revision": revision or "main",
        "status": refused.status,
        "words": refused.words,
    }
    login = "" if site.token else "-login"
    if refused.host != site.host:  # storage that the hub sends on to, or a wall before it
        return Problem("fetch.refused", {**facts, "host": refused.host})
    if refused.code == NO_ENTRY:
        return Problem("fetch.no-entry", facts)
    match refused.code, refused.status:
        case "GatedRepo", _:
            return Problem(f"fetch.gated{login}", facts)
        case "RevisionNotFound", _:
            return Problem("fetch.no-revision", facts)
        case _, 401 if site.token and refused.code != "RepoNotFound":
            return Problem("fetch.bad-token", facts)
        case _, 403 if "disabled" in refused.words:
            return Problem("fetch.disabled", facts)
        case _, 403:
            return Problem(f"fetch.forbidden{login}", facts)
        case _ if _is_absent(refused):
            return Problem(f"fetch.no-repository{login}", facts)
    return Problem("fetch.not-the-api" if refused.code == "not-json" else "fetch.refused", facts)


def page_of(endpoint: str, name: str, kind: str) -> str:
    """Where people read about a repository, and ask for access to it."""
    return f"{endpoint}/{'datasets/' if kind == DATASET else ''}{name}"


def _is_absent(refused: Refused) -> bool:
    """Whether there is no such repository, or none for this person: the hub does not tell the two apart."""
    return refused.code == "RepoNotFound" or (not refused.code and refused.status in (401, 404))


def _read(told: Any, site: Site, asked: Reference, kind: str) -> Listing:
    """Raises FinetuiError (exit 5) where an answer is none of a hub."""
    try:
        commit = str(told["sha"])
        name = str(told.get("id") or asked.name)
        if not _SHA1.fullmatch(commit):
            raise ValueError("no commit")
        base = f"{page_of(site.endpoint, name if is_hub_id(name) else asked.name, kind)}/resolve/{commit}/"
        files = tuple(_file(sibling, base) for sibling in told["siblings"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FinetuiError(Problem("fetch.not-the-api", {"host": site.host}), MACHINE) from None
    name = name if is_hub_id(name) else asked.name
    return Listing("hub", kind, name, commit, files, page_of(site.endpoint, name, kind))


def _file(sibling: Any, base: str) -> RemoteFile:
    path, size, lfs = str(sibling["rfilename"]), sibling.get("size"), sibling.get("lfs") or {}
    sha256, sha1 = str(lfs.get("sha256", "")), str(sibling.get("blobId", ""))
    if lfs:
        size = lfs.get("size", size)
    return RemoteFile(
        path=path,
        address=base + quote(path, errors="replace"),
        bytes=size if isinstance(size, int) and size >= 0 else None,
        sha256=sha256 if _SHA256.fullmatch(sha256) else None,
        git_sha1=sha1 if not lfs and _SHA1.fullmatch(sha1) else None,
    )
