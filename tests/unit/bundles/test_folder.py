"""Opening a bundle: a lock is believed only as far as it is one, and every fault is told at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetui.bundles.folder import Bundle
from finetui.core.errors import FinetuiError, Problem, render

pytestmark = pytest.mark.unit


def rewrite(bundle: Path, text: bytes) -> None:
    """Another lock.json, with a manifest that agrees with it."""
    lock = bundle / "lock.json"
    before = hashlib.sha256(lock.read_bytes()).hexdigest()
    lock.write_bytes(text)
    listing = bundle / "manifest-sha256.txt"
    listing.write_text(listing.read_text().replace(before, hashlib.sha256(text).hexdigest()))


def change(bundle: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    lock = json.loads((bundle / "lock.json").read_text())
    edit(lock)
    rewrite(bundle, json.dumps(lock).encode())


def problems(bundle: Path) -> list[Problem]:
    with pytest.raises(FinetuiError) as error:
        Bundle.load(bundle)
    assert error.value.exit_code == 3
    assert render(error.value.problems, "zh")
    return list(error.value.problems)


def test_a_bundle_opens_with_its_name_and_id(bundle: Path) -> None:
    found = Bundle.load(bundle)
    assert (found.name, found.path) == ("test", bundle)
    assert found.id == hashlib.sha256((bundle / "manifest-sha256.txt").read_bytes()).hexdigest()


def test_all_faults_of_a_lock_are_told_at_once(bundle: Path) -> None:
    def edit(lock: dict[str, Any]) -> None:
        del lock["steps"]
        lock["name"] = "$(rm -rf ~)"
        lock["world_size"] = 0
        lock["data"]["train"]["digest"] = "abc"
        lock["data"]["sources"].append({"name": "x", "sha256": None})

    change(bundle, edit)
    found = problems(bundle)
    assert {problem.code for problem in found} == {"bundles.bad-lock"}
    told = {problem.facts["key"] for problem in found}
    assert told == {"steps", "name", "world_size", "data.train.digest", "data.sources[1].sha256"}
    assert {problem.file for problem in found} == {str(bundle / "lock.json")}


def test_a_newer_lock_names_what_is_needed(bundle: Path) -> None:
    change(bundle, lambda lock: lock.update(version=3, finetui="9.1"))
    [problem] = problems(bundle)
    assert problem.code == "bundles.newer-lock"
    assert problem.expected("en") == "finetui 9.1 or later"


def test_a_later_revision_with_more_keys_is_read(bundle: Path) -> None:
    change(bundle, lambda lock: lock.update(revision=5, packing={"rule": "bfd"}))
    assert Bundle.load(bundle).lock["revision"] == 5


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "LD_PRELOAD": lambda lock: lock["environment"].update(LD_PRELOAD="/tmp/evil.so"),
    "PYTHONPATH": lambda lock: lock["environment"].update(PYTHONPATH="/tmp"),
    "a shell in a value": lambda lock: lock["environment"].update(OMP_NUM_THREADS="$(id)"),
    "a shell in the name": lambda lock: lock.update(name='x"; id; "'),
    "a name with a newline": lambda lock: lock.update(name="x\n"),
    "a path that leaves": lambda lock: lock["data"]["train"].update(file="../../secret"),
    "an absolute path": lambda lock: lock["data"]["train"].update(file="/etc/passwd"),
    "a model file that leaves": lambda lock: lock["model"]["files"].update({"../x": "0" * 64}),
    "a shell as a count": lambda lock: lock["launch"].update(nproc_per_node="1; id"),
    "a negative count": lambda lock: lock.update(steps=-1),
    "true as a count": lambda lock: lock.update(world_size=True),
    "a huge count": lambda lock: lock.update(steps=10**30),
    "a list for a table": lambda lock: lock.update(model=[]),
    "null for a table": lambda lock: lock.update(data=None),
    "settings without reasons": lambda lock: lock["training"].update(r=8),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_lock_is_refused(bundle: Path, kind: str) -> None:
    change(bundle, HOSTILE[kind])
    assert {problem.code for problem in problems(bundle)} == {"bundles.bad-lock"}


ABSURD = {
    "nothing": b"",
    "no JSON": b"hello",
    "binary": bytes(range(256)),
    "half": b'{"version": 0',
    "a list": b"[]",
    "null": b"null",
    "NaN": b'{"version": NaN}',
    "a key twice": b'{"version": 0, "version": 0}',
    "depth": b"[" * 200_000,
    "a number of many digits": b'{"version": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("kind", ABSURD)
def test_an_absurd_lock_is_refused(bundle: Path, kind: str) -> None:
    rewrite(bundle, ABSURD[kind])
    assert [problem.code for problem in problems(bundle)] == ["bundles.unreadable-lock"]


def test_a_linked_or_missing_lock_is_refused(bundle: Path) -> None:
    lock = bundle / "lock.json"
    lock.rename(bundle.parent / "lock.json")
    assert [problem.code for problem in problems(bundle)] == ["bundles.unreadable-lock"]
    lock.symlink_to(bundle.parent / "lock.json")
    assert [problem.code for problem in problems(bundle)] == ["bundles.unreadable-lock"]


def test_a_bundle_without_a_manifest_has_no_id_and_does_not_open(bundle: Path) -> None:
    (bundle / "manifest-sha256.txt").unlink()
    assert [problem.code for problem in problems(bundle)] == ["bundles.no-manifest"]
