"""Plain addresses: files and archives, however hostile what they hold."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from finetui.core.fetched import MANIFEST, read_manifest
from finetui.data.sources.hub import find_cached
from finetui.models import find_model, identify
from finetui.models.fetch import archives
from finetui.models.fetch.check import check
from tests.unit.models.fetching import get, problem, refused
from tests.unit.models.loopback import Loopback, files_of

pytestmark = pytest.mark.unit

ROWS = b'{"text": "row"}\n' * 100


def tar_of(members: Mapping[str, bytes], mode: Any = "w:gz", **more: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, **more) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def zip_of(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tar_with(**facts: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("member")
        for name, value in facts.items():
            setattr(entry, name, value)
        tar.addfile(entry)
    return stream.getvalue()


def test_a_file_is_a_dataset_of_its_name(hub: Loopback, home: Path) -> None:
    hub.pages["/files/x/rows.jsonl"] = ROWS
    fetched = get(f"{hub.address}/files/x/rows.jsonl")
    assert (fetched.path, fetched.kind) == (home / "datasets" / "rows", "dataset")
    assert (fetched.path / "rows.jsonl").read_bytes() == ROWS
    assert find_cached("rows") == fetched.path
    assert get(f"{hub.address}/files/x/rows.jsonl").already
    assert check(str(fetched.path), on_progress=None).is_good


def test_what_is_secret_in_an_address_is_kept_nowhere(hub: Loopback, home: Path) -> None:
    hub.pages["/files/x/rows.jsonl"] = ROWS
    address = hub.address.replace("http://", "http://me:geheim@") + "/files/x/rows.jsonl?Signature=heimlich#x"
    fetched = get(address)
    assert fetched.source == f"{hub.address}/files/x/rows.jsonl"
    kept = json.dumps(fetched.to_json()) + "".join(
        str(path) + path.read_text(errors="replace") for path in home.rglob("*") if path.is_file()
    )
    assert not {"geheim", "heimlich"} & {word for word in ("geheim", "heimlich") if word in kept}
    one = problem(lambda: get(address.replace("rows.jsonl", "nothing.jsonl")))
    assert one.code == "fetch.no-address"
    assert "heim" not in json.dumps(one.to_json())


def test_what_a_query_asks_for_has_a_folder_of_its_own(hub: Loopback) -> None:
    hub.pages["/files/x/get"] = ROWS
    first, second = (get(f"{hub.address}/files/x/get?name={name}") for name in ("a", "b"))
    assert first.path != second.path
    assert not second.already


def test_an_address_elsewhere_may_not_take_the_place(hub: Loopback) -> None:
    hub.pages |= {"/files/x/rows.jsonl": ROWS, "/files/y/rows.jsonl": b"other\n"}
    get(f"{hub.address}/files/x/rows.jsonl")
    assert refused(lambda: get(f"{hub.address}/files/y/rows.jsonl")) == ("fetch.taken", 3)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("within", ["", "./", "tiny/"])
def test_a_model_in_an_archive(hub: Loopback, tiny_model: Path, home: Path, suffix: str, within: str) -> None:
    members = {within + name: content for name, content in files_of(tiny_model).items()}
    mode = {"tar": "w", "zip": ""}.get(suffix, "w:" + suffix[-3:].lstrip(".rt").replace("gz", "gz"))
    packed = zip_of(members) if suffix == "zip" else tar_of(members, mode.replace("w:tgz", "w:gz"))
    hub.pages[f"/files/x/chat.{suffix}"] = packed
    fetched = get(f"{hub.address}/files/x/chat.{suffix}")
    assert (fetched.path, fetched.kind) == (home / "models" / "chat", "model")
    there = files_of(find_model("chat"))
    assert there.pop(MANIFEST)
    assert there == files_of(tiny_model)
    assert identify(fetched.path).name == "chat"
    assert [path.name for path in home.rglob(".*.part")] == []


def test_data_in_an_archive(hub: Loopback, home: Path) -> None:
    hub.pages["/files/x/talks.zip"] = zip_of({"a/train.jsonl": ROWS, "b/test.jsonl": ROWS})
    fetched = get(f"{hub.address}/files/x/talks.zip")
    assert (fetched.path, set(fetched.files)) == (home / "datasets" / "talks", {"a/train.jsonl", "b/test.jsonl"})


HOSTILE = {
    "up": tar_of({"../escape.txt": b"x"}),
    "up-inside": tar_of({"a/../../escape.txt": b"x"}),
    "symlink": tar_with(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hardlink": tar_with(type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
    "fifo": tar_with(type=tarfile.FIFOTYPE),
    "device": tar_with(type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "twice": tar_of({"a": b"x", "./a": b"y"}),
    "file-and-folder": tar_of({"a": b"x", "a/b": b"y"}),
    "control": tar_of({"a\x1b[31m": b"x"}),
    "ours": tar_of({MANIFEST: b"{}"}),
    "long": tar_of({"a" * 256: b"x"}),
    "empty": tar_of({}),
    "cut": tar_of({"a": os.urandom(50_000)})[:30_000],
    "no-archive": b"<html>not found</html>" * 99,
    "zip-up": zip_of({"../escape.txt": b"x"}),
    "zip-root": zip_of({"/escape.txt": b"x"}),
    "zip-windows": zip_of({"..\\escape.txt": b"x"}),
    "zip-cut": zip_of({"a": os.urandom(50_000)})[:30_000],
    "zip-twice": zip_of({"a": b"x", "./a": b"y"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_write_nothing_outside_and_are_refused(hub: Loopback, home: Path, kind: str) -> None:
    name = "evil.zip" if kind.startswith("zip") else "evil.tar.gz"
    hub.pages[f"/files/x/{name}"] = HOSTILE[kind]
    before = set(home.parent.iterdir()) | {home}
    one = problem(lambda: get(f"{hub.address}/files/x/{name}"))
    assert one.code in {
        "fetch.archive-broken",
        "fetch.archive-link",
        "fetch.archive-twice",
        "fetch.hostile-name",
    }
    assert set(home.parent.iterdir()) == before
    assert not (home / "datasets" / "evil").exists()
    assert not list(home.rglob("escape.txt"))


def test_a_header_that_asks_for_all_memory_is_refused(hub: Loopback) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    hub.pages["/files/x/evil.tar.gz"] = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    assert problem(lambda: get(f"{hub.address}/files/x/evil.tar.gz")).facts["why"] == "a header out of all proportion"


@pytest.mark.parametrize(
    "begin", [b"\x1f\x8b", b"\x1f\x8b\x08\x04", b"BZh9", b"\xfd7zXZ\0\0", b"PK\5\6" + b"\xff" * 18]
)
def test_what_only_begins_like_an_archive_is_refused(hub: Loopback, begin: bytes) -> None:
    for name in ("evil.tar.gz", "evil.zip"):
        hub.pages[f"/files/x/{name}"] = begin
        assert problem(lambda name=name: get(f"{hub.address}/files/x/{name}")).code == "fetch.archive-broken"


def test_a_zip_link_is_refused(hub: Loopback) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    hub.pages["/files/x/evil.zip"] = stream.getvalue()
    assert refused(lambda: get(f"{hub.address}/files/x/evil.zip")) == ("fetch.archive-link", 3)


def test_what_unpacks_out_of_all_proportion_is_refused(
    hub: Loopback, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_RATIO_FREE", 1 << 20)
    bomb = bytes(50 << 20)
    hub.pages["/files/x/bomb.tar.gz"] = tar_of({f"{n}": bomb for n in range(3)})
    hub.pages["/files/x/bomb.zip"] = zip_of({f"{n}": bomb for n in range(3)})
    for suffix in ("tar.gz", "zip"):
        assert refused(lambda name=f"bomb.{suffix}": get(f"{hub.address}/files/x/{name}")) == ("fetch.archive-bomb", 3)
    assert sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) < 3 * len(bomb)
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 10)
    hub.pages["/files/x/many.zip"] = zip_of({f"{n}": b"x" for n in range(11)})
    assert refused(lambda: get(f"{hub.address}/files/x/many.zip")) == ("fetch.archive-bomb", 3)


def test_an_archive_that_could_not_be_unpacked_is_not_fetched_again(
    hub: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.pages["/files/x/rows.zip"] = zip_of({"rows.jsonl": ROWS})
    with monkeypatch.context() as full:
        full.setattr(archives, "free_bytes", lambda folder: 0)
        assert refused(lambda: get(f"{hub.address}/files/x/rows.zip")) == ("fetch.disk-full", 5)
    fetched = get(f"{hub.address}/files/x/rows.zip")
    assert fetched.resumed_bytes == len(hub.pages["/files/x/rows.zip"])
    assert (fetched.path / "rows.jsonl").read_bytes() == ROWS
    manifest = read_manifest(fetched.path)
    assert manifest is not None
    assert set(manifest.files) == {"rows.jsonl"}


@pytest.mark.parametrize("address", ["/", "/files/x/..%2f..%2fescape", "/files/x/%1b%5b31m", "/files/x/a%00b"])
def test_names_in_addresses_are_hostile_too(hub: Loopback, home: Path, address: str) -> None:
    assert refused(lambda: get(hub.address + address, site="url"))[1] == 3
    assert not (home.parent / "escape").exists()
