"""Whether a bundle may run here: it was locked here, its code is a known finetui's, or its id was named by hand."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from finetui.bundles import launch, manifest
from finetui.bundles.folder import Bundle
from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.files import sha256_file

TRAINER = Path(__file__).parents[1] / "workers" / "train"
_KNOWN = Path(__file__).with_name("known_trainers.toml")
_CODE = "train/"
_SCRIPT = "launch.sh"
# The trainer starts in the bundle's folder, so a stray `torch.py` there would be imported: nothing else may lie there.
_INERT = re.compile(r"recipe\.toml|lock\.json|data/[\w.-]+\.parquet|env/(requirements\.txt|pylock(\.[\w-]+)?\.toml)")
_ID = re.compile(r"[0-9a-f]{64}")


def remember(identity: str) -> None:
    """Keep the id of a bundle that was locked here.

    Raises OSError where the cache cannot be written.
    """
    (_kept() / identity).touch()


def is_ours(identity: str) -> bool:
    """Whether a bundle of this id was locked here."""
    return bool(_ID.fullmatch(identity)) and (_kept() / identity).exists()


def check_trust(bundle: Bundle, trusted: str | None = None) -> None:
    """Refuse a bundle that brings code of its own; `trusted` is the id that the user vouches for.

    The bundle has been verified: what its manifest lists is what lies there.

    Raises FinetuiError (exit 3) with the id to vouch for.
    """
    if bundle.id == trusted or is_ours(bundle.id):
        return
    facts = {"id": bundle.id, "path": str(bundle.path), "trusted": trusted or ""}
    if trusted is not None:
        code = "bundles.other-id"
    elif any(name.endswith(".py") for name in bundle.lock["model"]["files"]):
        code = "bundles.model-code"
    elif not _is_known(bundle):
        code = "bundles.untrusted"
    else:
        return
    raise FinetuiError(Problem(code, facts, str(bundle.path)), BAD_INPUT)


def installed_code() -> str:
    """The digest of the code that bundles locked by this finetui hold."""
    modules = {f"{_CODE}{path.relative_to(TRAINER).as_posix()}": sha256_file(path) for path in TRAINER.rglob("*.py")}
    return _code_digest(modules, (TRAINER / _SCRIPT).read_text(encoding="utf-8"))


def _is_known(bundle: Bundle) -> bool:
    """Whether its code is a known finetui's, its launch script what the lock asks for, and nothing else lies there."""
    text, _ = manifest.read(bundle.path / manifest.NAME)
    files = manifest.parse(text)
    if not all(path.startswith(_CODE) or path == _SCRIPT or _INERT.fullmatch(path) for path in files):
        return False
    try:
        script, _ = manifest.read(bundle.path / _SCRIPT)
        if launch.render(script, bundle.lock) != script:
            return False
        digest = _code_digest(files, script)
    except (OSError, ValueError):
        return False
    known = tomllib.loads(_KNOWN.read_text(encoding="utf-8"))["digests"]
    return digest == installed_code() or digest in known.values()


def _code_digest(files: Mapping[str, str], script: str) -> str:
    """SHA-256 over the manifest of `train/` and the launch script, the latter without what a lock fills in."""
    code = {path: digest for path, digest in files.items() if path.startswith(_CODE)}
    return manifest.digest_of(manifest.render({**code, _SCRIPT: manifest.digest_of(launch.blank(script))}))


def _kept() -> Path:
    path = home.folder("cache") / "locked"
    path.mkdir(exist_ok=True)
    return path
