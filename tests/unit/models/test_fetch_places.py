"""Where files are written, where they never are, and what is said where there is no room for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from finetui.core.fetched import MANIFEST
from finetui.models import find_model, identify
from finetui.models.fetch.check import check
from finetui.models.fetch.listing import check_cases
from finetui.models.places import everywhere
from tests.unit.models.fetching import ID, WEIGHTS, get, problem, refused
from tests.unit.models.loopback import COMMIT, Loopback, files_of

pytestmark = pytest.mark.unit

HOSTILE = [
    "../escape",
    "a/../../escape",
    "/escape",
    "a//b",
    "./a",
    "a/.",
    "a\\..\\escape",
    "a\x1b]52;c;x\x07",
    "a\nb",
    "a\tb",
    "a\u202eb",
    "a\u200bb",
    "a\x00b",
    "\ud800",
    "x" * 256,
    "é" * 128,
    MANIFEST,
    ".parts/x",
    ".fetched.jsonl",
    "config.json/x",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_before_anything_is_written(hub: Loopback, home: Path, name: str) -> None:
    hub.datasets["owner/rows"] = {"config.json": b"{}", name: b"x"}
    before = set(home.parent.rglob("*"))
    one = problem(lambda: get("owner/rows"))
    assert one.code == "fetch.hostile-name"
    assert str(one.facts["name"]).isascii()
    assert str(one.facts["name"]).isprintable()
    assert set(home.parent.rglob("*")) == before
    assert not hub.requests_of("/resolve/")


def test_a_path_that_is_too_long_for_a_disk_is_an_error_in_words(hub: Loopback) -> None:
    hub.datasets["owner/rows"] = {"/".join(["d" * 200] * 40): b"x"}
    assert refused(lambda: get("owner/rows")) == ("fetch.hostile-name", 3)


def test_strange_but_harmless_names_are_written(hub: Loopback) -> None:
    names = [
        "数据/训练 集.jsonl",
        "a b/100%.jsonl",
        "q?x=1#y.jsonl",
        "-rf",
        "~",
        "$HOME",
        "'\"",
        ".hidden",
        "a+b&c.jsonl",
    ]
    hub.datasets["owner/rows"] = {name: name.encode() for name in names}
    there = files_of(get("owner/rows").path)
    there.pop(MANIFEST)
    assert there == {name: name.encode() for name in names}


def test_names_that_differ_in_case_alone(hub: Loopback, tmp_path: Path) -> None:
    hub.datasets["owner/rows"] = {"a.jsonl": b"1", "A.jsonl": b"2"}
    there = files_of(get("owner/rows").path)
    assert (there["a.jsonl"], there["A.jsonl"]) == (b"1", b"2")
    (tmp_path / "folder").mkdir()
    (tmp_path / "FOLDER").mkdir()  # as a disk looks that does not tell them apart
    assert refused(lambda: check_cases(["a.jsonl", "A.jsonl"], tmp_path / "folder")) == ("fetch.case-clash", 5)


def test_the_disk_is_looked_at_before_anything_comes(hub: Loopback, home: Path) -> None:
    hub.sizes[WEIGHTS] = 10**18
    one = problem(get)
    assert one.code in ("fetch.disk", "fetch.disk-elsewhere")
    assert refused(get)[1] == 5
    assert one.facts["needed"] == "1000000.0 TB"
    assert not hub.requests_of("/resolve/")
    assert list(everywhere()) == []
    assert get(weights=False).fetched_bytes


def test_mending_one_file_needs_no_room_for_the_others(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    path = get().path
    (path / "config.json").unlink()
    monkeypatch.setattr("finetui.models.fetch.space._SLACK", 0)
    monkeypatch.setattr("finetui.models.fetch.space.free_bytes", lambda folder: 20_000)
    assert get().fetched_bytes == len(hub.models[ID]["config.json"])
    assert check(ID, on_progress=None).is_good


def test_a_disk_without_links_has_the_files_copied(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    path = get().path
    (path / "config.json").unlink()

    def no_links(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert get().fetched_bytes == len(hub.models[ID]["config.json"])
    assert check(ID, on_progress=None).is_good


def test_a_folder_may_be_a_link_to_another_disk(hub: Loopback, home: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    home.mkdir()
    (home / "models").symlink_to(disk)
    assert get().path == home / "models" / ID
    assert (disk / ID / WEIGHTS).is_file()
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    get(out=tmp_path / "link")
    (tmp_path / "work").mkdir()
    assert get(out=tmp_path / "work" / ".." / "other").path == tmp_path / "other"
    assert (empty / WEIGHTS).is_file()
    assert identify(tmp_path / "link").source == ID


def test_a_whole_disk_is_no_folder_to_replace(hub: Loopback) -> None:
    one = problem(lambda: get(out=Path("/")))
    assert (one.code, one.next("en")) == ("fetch.mount-point", "--out /fetched")


def test_nothing_that_ended_between_two_renames_is_lost(hub: Loopback, home: Path) -> None:
    path = get().path
    path.rename(path.with_name(".tiny-chat.old"))
    hub.asked.clear()
    assert get().path == path
    assert hub.requests_of("/resolve/") == []
    assert check(ID, on_progress=None).is_good


def in_cache(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "place",
    [
        "modelscope/models/owner/tiny-chat",
        "modelscope/hub/models/owner/tiny-chat",
        "modelscope/hub/owner/tiny-chat",
        "modelscope/models/owner--tiny-chat/snapshots/master",
        f"hf/hub/models--owner--tiny-chat/snapshots/{COMMIT}",
    ],
)
def test_what_other_tools_have_fetched_is_found_and_taken(
    hub: Loopback, tmp_path: Path, tiny_model: Path, place: str
) -> None:
    wanted = {**files_of(tiny_model), "README.md": b"# tiny", "modeling_tiny.py": b"raise SystemExit('run')"}
    there = in_cache(tmp_path / place, wanted)
    assert find_model(ID) == there
    assert identify(there).source == ID
    assert there in list(everywhere())
    fetched = get()
    assert (fetched.path, fetched.already) == (there, True)
    elsewhere = get(out=tmp_path / "mine")
    assert (elsewhere.fetched_bytes, elsewhere.already) == (0, False)


def test_modelscope_adds_files_to_what_is_here_and_leaves_what_has_changed(hub: Loopback) -> None:
    path = get(ID, site="modelscope").path
    fetched = get(ID, site="modelscope", files=("*.gguf",))
    assert {"tiny.Q4.gguf", WEIGHTS} <= set(files_of(path))
    assert not fetched.already
    hub.models[ID]["config.json"] += b"\n"
    again = get(ID, site="modelscope")
    assert again.already
    assert [note.code for note in again.notes] == ["fetch.note-other", "fetch.note-code"]


def test_a_model_that_was_deleted_by_hand_comes_again(hub: Loopback) -> None:
    shutil.rmtree(get().path)
    assert get().fetched_bytes
