"""Whether a bundle is still what was locked: every byte, every file, and what its evidence says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetui.bundles import manifest
from finetui.bundles.folder import LOCK, bundle_folder, read_lock
from finetui.core.files import read_json
from finetui.core.text import PATH_LIMIT, one_line
from finetui.models.find import matches
from finetui.models.places import everywhere

REQUIRED = (LOCK, "recipe.toml", "launch.sh", "train/main.py", "data/train.parquet")
"""Without these a bundle cannot run, whatever its manifest says."""
EVIDENCE_FILE = "evidence.json"
BUNDLE_MANIFEST = f"../{manifest.NAME}"
"""The line of the evidence's manifest that names the bundle id."""

Mismatch = dict[str, str | None]


def verify(path: Path) -> dict[str, Any]:
    """The contract of `verify`: `ok`, `id`, `absent` (what is elsewhere and not found here), `mismatches`.

    A mismatch has the digest that was expected (None for a file that should not be) and the actual one (None for a
    file that is gone), or in its place a word such as `symlink`.

    Raises FinetuiError where `path` is no bundle, or holds an intact lock that cannot be read.
    """
    folder = bundle_folder(path)
    contents = manifest.scan(folder, frozenset({manifest.NAME, manifest.EVIDENCE}))
    identity, mismatches = _compare(folder / manifest.NAME, contents.digests, contents.odd, manifest.NAME, "")
    mismatches += _missing(contents.digests, mismatches)
    mismatches += [mismatch for mismatch in _check_evidence(folder, identity) if mismatch not in mismatches]
    changed = {mismatch["path"] for mismatch in mismatches}
    absent = [] if {LOCK, manifest.NAME} & changed else _absent(read_lock(folder), folder)
    return {"ok": not mismatches, "id": identity, "absent": absent, "mismatches": mismatches}


def _compare(
    listing: Path, actual: dict[str, str], odd: dict[str, str], name: str, prefix: str
) -> tuple[str | None, list[Mismatch]]:
    """The digest of a manifest file, and how the files that are there differ from what it lists."""
    try:
        text, identity = manifest.read(listing)
    except OSError:
        return None, [_mismatch(name, manifest.digest_of(manifest.render(actual)), None)]
    listed = manifest.parse(text)
    found = [
        _mismatch(prefix + path, listed.get(path), odd.get(path, actual.get(path)))
        for path in sorted({*listed, *actual, *odd})
        if path in odd or listed.get(path) != actual.get(path)
    ]
    if text != manifest.render(listed):
        found.append(_mismatch(name, manifest.digest_of(manifest.render(actual)), identity))
    return identity, found


def _missing(actual: dict[str, str], found: list[Mismatch]) -> list[Mismatch]:
    known = {mismatch["path"] for mismatch in found}
    return [_mismatch(path, "file", None) for path in REQUIRED if path not in actual and path not in known]


def _check_evidence(folder: Path, identity: str | None) -> list[Mismatch]:
    """What differs in `evidence/`, whose own manifest also lists the bundle's."""
    evidence = folder / manifest.EVIDENCE
    if evidence.is_symlink() or (evidence.exists() and not evidence.is_dir()):
        return [_mismatch(manifest.EVIDENCE, "folder", "symlink" if evidence.is_symlink() else "file")]
    if not evidence.exists():
        return []
    contents = manifest.scan(evidence, frozenset({manifest.NAME}))
    actual = {**contents.digests, **({} if identity is None else {BUNDLE_MANIFEST: identity})}
    prefix = f"{manifest.EVIDENCE}/"
    _, found = _compare(evidence / manifest.NAME, actual, contents.odd, prefix + manifest.NAME, prefix)
    for mismatch in found:
        if mismatch["path"] == prefix + BUNDLE_MANIFEST:
            mismatch["path"] = manifest.NAME
    if EVIDENCE_FILE in contents.digests:
        named = _named_bundle(evidence / EVIDENCE_FILE)
        if named != identity and not any(mismatch["path"] == manifest.NAME for mismatch in found):
            found.append(_mismatch(manifest.NAME, named, identity))
    return found


def _named_bundle(path: Path) -> str | None:
    try:
        found = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None
    return str(found["bundle_id"]) if isinstance(found, dict) and "bundle_id" in found else None


def _absent(lock: dict[str, Any], folder: Path) -> list[dict[str, str]]:
    """What the lock refers to and this machine does not have; nothing is fetched."""
    model = lock["model"]
    if any(matches(place, model["identity"], model["files"]) for place in (folder.parent, *everywhere())):
        return []
    return [{"what": "model", "name": model["name"], "sha256": model["identity"]}]


def _mismatch(path: str, expected: str | None, actual: str | None) -> Mismatch:
    return {"path": one_line(path, PATH_LIMIT), "expected": expected, "actual": actual}
