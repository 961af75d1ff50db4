"""What a person asks to have fetched: an id, an id of ModelScope, an address of a hub's page or of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, unquote, urlsplit

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.fetched import DATASET, MODEL, is_hub_id
from finetui.models.fetch.sites import HUB, HUB_ENDPOINT, MIRROR, MODELSCOPE, URL, hub_site, modelscope_site

_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)
_DEFAULTS = ("main", "master")
_HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com"})
_MODELSCOPE_HOSTS = frozenset({"modelscope.cn", "www.modelscope.cn", "modelscope.ai", "www.modelscope.ai"})
_VIEWS = frozenset({"tree", "blob", "resolve", "raw", "file", "files"})
_TABS = frozenset({"blame", "commit", "commits", "community", "discussions", "summary", "viewer"})
"""Pages about a repository that are about no file of it."""


@dataclass(frozen=True)
class Reference:
    """What is to be fetched, and where it is asked for."""

    site: str
    """`hub`, `modelscope` or `url`."""
    name: str
    """`OWNER/NAME`, `NAME`, or the address."""
    kind: str | None = None
    """`model` or `dataset` where that was said; None where the site has to tell."""
    revision: str | None = None
    """None for the newest."""
    files: tuple[str, ...] = ()
    """Patterns of the files that an address was about; none for all."""
    endpoint: str | None = None
    """The hub whose page was pasted, where it is another than the configured one."""


def read_reference(words: str, *, site: str | None = None, revision: str | None = None) -> Reference:
    """What `words` name; `site` and `revision` say more of it.

    Raises FinetuiError (exit 2) where they name nothing that can be asked for.
    """
    words = words.strip()
    if site == URL or (site is None and "://" in words and not words.startswith("hf://")):
        read = _from_address(words) if site is None else _plain(words)
    else:
        read = _from_id(words, site or HUB)
    if revision is not None:
        read = replace(read, revision=revision)
    if read.revision is not None and (not _REVISION.fullmatch(read.revision) or ".." in read.revision):
        raise FinetuiError(Problem("fetch.bad-revision", {"revision": read.revision}), USAGE)
    return replace(read, revision=None) if read.revision in _DEFAULTS else read


def _from_id(words: str, site: str) -> Reference:
    kind = None
    for prefix, named in (("hf://", HUB), ("modelscope:", MODELSCOPE), ("hf:", HUB)):
        if words.startswith(prefix):
            words, site = words.removeprefix(prefix), named
            break
    for folder, named in (("datasets/", DATASET), ("models/", MODEL)):
        if words.startswith(folder) and words.count("/") == 2:
            words, kind = words.removeprefix(folder), named
    name, at, revision = words.partition("@")
    if not is_hub_id(name) or (site == MODELSCOPE and "/" not in name) or (at and not revision):
        raise FinetuiError(Problem("fetch.bad-reference", {"words": words}), USAGE)
    return Reference(site, name, kind, revision or None)


def _from_address(words: str) -> Reference:
    """The id that the page of a hub is about, else the address as it is."""
    parts = _split(words)
    address = f"{parts.scheme}://{parts.netloc}"
    if parts.hostname in _HUB_HOSTS or address == hub_site().endpoint:
        mirrors = {"hf-mirror.com": MIRROR}
        endpoint = mirrors.get(parts.hostname or "", address if address == hub_site().endpoint else HUB_ENDPOINT)
        found = _of_page(HUB, parts.path)
        return replace(found, endpoint=endpoint) if found else _plain(words)
    if parts.hostname in _MODELSCOPE_HOSTS or address == modelscope_site().endpoint:
        return _of_page(MODELSCOPE, parts.path) or _plain(words)
    return _plain(words)


def _of_page(site: str, path: str) -> Reference | None:
    """`[datasets/]OWNER/NAME[/tree|blob|resolve/REVISION[/PATH]]`; None for a page that is about no repository."""
    words = [unquote(word) for word in path.split("/") if word]
    kind = MODEL
    if words and words[0] in ("datasets", "models"):
        kind = DATASET if words[0] == "datasets" else MODEL
        words = words[1:]
    elif site == MODELSCOPE or (words and words[0] in ("api", "spaces", "docs", "papers", "collections")):
        return None
    length = 1 if len(words) == 1 or (len(words) > 1 and words[1] in _VIEWS) else 2
    name, rest = "/".join(words[:length]), words[length:]
    if not words or not is_hub_id(name) or (rest and rest[0] not in _VIEWS | _TABS):
        return None
    if rest[:2] == ["file", "view"]:  # how ModelScope shows one file
        rest = ["blob", *rest[2:]]
    revision, inside = None, ""
    if len(rest) > 1 and rest[0] in _VIEWS:
        revision, inside = rest[1], "/".join(rest[2:])
    if not inside or kind == MODEL:  # a link to one file of a model means the model
        return Reference(site, name, kind, revision)
    return Reference(site, name, kind, revision, (inside if rest[0] != "tree" else f"{inside}/*",))


def _plain(words: str) -> Reference:
    _split(words)
    return Reference(URL, words)


def _split(words: str) -> SplitResult:
    try:
        parts = urlsplit(words)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts
    except ValueError:
        pass
    raise FinetuiError(Problem("fetch.bad-reference", {"words": without_secrets(words)}), USAGE)


def without_secrets(address: str) -> str:
    """An address as it may be shown and kept: without user, password, query and fragment, which may be secret."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?"
    return f"{parts.scheme}://{host}{port}{parts.path}"
