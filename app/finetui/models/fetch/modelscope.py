"""ModelScope: what a repository holds, and what its refusals mean.

Facts of the interface as in modelscope_hub 0.5.1: `api/v1/models/ID/repo/files` lists a model, `api/v1/datasets/ID/
repo/tree` a dataset in pages, both with Path, Type, Size and Sha256; `…/repo?Revision=…&FilePath=…` gives a file.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.fetched import DATASET, MODEL
from finetui.models.fetch.http import NO_ENTRY, Client, Refused
from finetui.models.fetch.listing import Listing, RemoteFile
from finetui.models.fetch.reference import Reference
from finetui.models.fetch.sites import Site

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PAGE = 200
_MOST_PAGES = 501
_CUT_AT = 3000
"""Entries at which the list of a model is cut, without a word."""


def list_modelscope(client: Client, asked: Reference) -> Listing:
    """The repository that was asked for, a model before a dataset of the same name.

    Raises Refused where there is none or it is not for everybody, Broken, FinetuiError where no ModelScope answers.
    """
    kinds = [asked.kind] if asked.kind else [MODEL, DATASET]
    revision = asked.revision or "master"
    for kind in kinds:
        try:
            entries = _entries(client, asked.name, kind, revision)
        except Refused as refused:
            if kind == kinds[-1] or refused.status != 404:
                raise
            continue
        base = f"{client.site.endpoint}/api/v1/{kind}s/{asked.name}/repo?"
        try:
            files = tuple(_file(entry, base, revision) for entry in entries if entry.get("Type") != "tree")
        except (KeyError, TypeError, AttributeError):
            raise FinetuiError(Problem("fetch.not-the-api", {"host": client.site.host}), MACHINE) from None
        return Listing("modelscope", kind, asked.name, revision, files, page_of(client.site.endpoint, asked.name, kind))
    raise AssertionError("the last kind returns or raises")


def explain_modelscope(refused: Refused, site: Site, name: str, kind: str) -> Problem:
    """A refusal of ModelScope in words."""
    facts = {
        "name": name,
        "host": site.host,
        "page": page_of(site.endpoint, name, kind),
        "status": refused.status,
        "words": refused.words,
    }
    if refused.code == "not-json":
        return Problem("fetch.not-the-api", facts)
    if refused.host != site.host:
        return Problem("fetch.refused", {**facts, "host": refused.host})
    if refused.code == NO_ENTRY:
        return Problem("fetch.no-entry", facts)
    if refused.status in (401, 403):
        return Problem("fetch.modelscope-forbidden" if site.token else "fetch.modelscope-login", facts)
    return Problem("fetch.modelscope-absent" if refused.status == 404 else "fetch.refused", facts)


def page_of(endpoint: str, name: str, kind: str) -> str:
    """Where people read about a repository."""
    return f"{endpoint}/{kind}s/{name}"


def _entries(client: Client, name: str, kind: str, revision: str) -> list[Any]:
    base = f"{client.site.endpoint}/api/v1/{kind}s/{name}/repo/"
    query = {"Revision": revision, "Recursive": "True"}
    if kind == MODEL:
        found = _page(client, f"{base}files?{urlencode(query)}")
        if len(found) >= _CUT_AT:
            raise FinetuiError(Problem("fetch.list-cut", {"count": len(found), "name": name}), BAD_INPUT)
        return found
    entries: list[Any] = []
    for number in range(1, _MOST_PAGES + 1):
        page = _page(client, f"{base}tree?{urlencode({**query, 'PageNumber': number, 'PageSize': _PAGE})}")
        entries += page
        if len(page) < _PAGE:
            break
    return entries


def _page(client: Client, address: str) -> list[Any]:
    """One list of entries.

    Raises Refused, also where the refusal stands in an answer that bears status 200.
    """
    told, _ = client.json(address)
    if isinstance(told, dict) and told.get("Success") is False:
        code = told.get("Code")
        status = code if code in (401, 403, 404) else 404 if "not" in str(told.get("Message", "")).lower() else 400
        raise Refused(int(status), client.site.host, words=str(told.get("Message", "")))
    data = told.get("Data") if isinstance(told, dict) else None
    entries = data.get("Files") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise Refused(200, client.site.host, "not-json")
    return entries


def _file(entry: Any, base: str, revision: str) -> RemoteFile:
    path, size, sha256 = str(entry["Path"]), entry.get("Size"), str(entry.get("Sha256") or "").lower()
    return RemoteFile(
        path=path,
        address=base + urlencode({"Revision": revision, "FilePath": path}, errors="replace"),
        bytes=size if isinstance(size, int) and size > 0 else None,  # 0 stands for unknown as well
        sha256=sha256 if _SHA256.fullmatch(sha256) else None,
    )
