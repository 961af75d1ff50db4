"""Models are fetched whole, where their id finds them, and only once."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from finetui.core.fetched import MANIFEST, read_manifest
from finetui.models import find_by_identity, find_model, identify
from finetui.models.fetch.check import check
from finetui.models.fetch.flow import fetch
from finetui.models.fetch.outcome import Fetched, Request
from finetui.models.places import everywhere
from tests.unit.models.fetching import ID, WEIGHTS, get, problem, refused
from tests.unit.models.loopback import COMMIT, Loopback, files_of, serving

pytestmark = pytest.mark.unit


def test_a_model_is_fetched_whole_and_found_by_its_id(hub: Loopback, home: Path, tiny_model: Path) -> None:
    fetched = get()
    assert fetched.path == home / "models" / "owner" / "tiny-chat"
    wanted = {**files_of(tiny_model), "README.md": b"# tiny", "modeling_tiny.py": b"raise SystemExit('run')"}
    there = files_of(fetched.path)
    manifest = json.loads(there.pop(MANIFEST))
    assert there == wanted
    assert manifest["files"][WEIGHTS]["sha256"] == hashlib.sha256(wanted[WEIGHTS]).hexdigest()
    assert {path: part.sha256 for path, part in fetched.files.items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in wanted.items()
    }
    assert fetched.fetched_bytes == sum(map(len, wanted.values()))
    assert find_model(ID) == find_model("tiny-chat") == fetched.path
    facts = identify(fetched.path)
    assert (facts.name, facts.source, facts.revision) == ("tiny-chat", ID, COMMIT)
    assert find_by_identity(facts.identity, facts.files) == fetched.path
    assert list((home / "models" / "owner").glob(".*.part")) == []


def test_what_training_does_not_need_is_left_out_and_code_is_named(hub: Loopback) -> None:
    fetched = get()
    assert set(fetched.left_out) == {"pytorch_model.bin", "model.fp16.safetensors", "onnx/model.onnx", "tiny.Q4.gguf"}
    assert [note.code for note in fetched.notes] == ["fetch.note-code"]
    assert not any("onnx" in asked.path or "pytorch_model" in asked.path for asked in hub.asked)


def test_what_is_here_is_not_fetched_again(hub: Loopback) -> None:
    get()
    hub.asked.clear()
    again = get()
    assert again.already
    assert again.fetched_bytes == 0
    assert hub.requests_of("/resolve/") == []


def test_what_the_cache_of_another_tool_has_is_not_fetched_again(
    hub: Loopback, tmp_path: Path, tiny_model: Path
) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--owner--tiny-chat" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    files = hub.models[ID]
    for path in (*files_of(tiny_model), "README.md", "modeling_tiny.py"):
        (snapshot / path).write_bytes(files[path])
    assert (get().path, get().already) == (snapshot, True)
    (snapshot / WEIGHTS).write_bytes(b"\0" * len(files[WEIGHTS]))
    other = get()
    assert not other.already
    assert other.fetched_bytes == len(files[WEIGHTS])
    assert files_of(other.path)[WEIGHTS] == files[WEIGHTS]


def test_a_mirror_that_tells_no_digests(hub: Loopback) -> None:
    hub.digests = False
    fetched = get()
    assert files_of(fetched.path)[WEIGHTS] == hub.models[ID][WEIGHTS]
    assert get().already
    (fetched.path / WEIGHTS).write_bytes(b"x" * len(hub.models[ID][WEIGHTS]))
    assert get().fetched_bytes == len(hub.models[ID][WEIGHTS])


def test_two_owners_may_use_one_name(hub: Loopback, home: Path) -> None:
    hub.models["another/tiny-chat"] = {**hub.models[ID], "README.md": b"# another"}
    assert get().path != get("another/tiny-chat").path
    assert identify(home / "models" / "another" / "tiny-chat").source == "another/tiny-chat"


def test_a_revision_by_name_lies_beside_the_newest(hub: Loopback, home: Path) -> None:
    newest = get()
    hub.commit = "2" * 40
    hub.models[ID]["config.json"] += b"\n"
    assert get(f"{ID}@v2").path == home / "models" / "owner" / "tiny-chat@v2"
    assert find_model(f"{ID}@v2") != find_model(ID) == newest.path
    assert identify(find_model(f"{ID}@v2")).revision == "2" * 40
    assert refused(lambda: get(ID, revision="v3")) == ("fetch.no-revision", 3)
    assert refused(lambda: get(ID, revision="../x")) == ("fetch.bad-revision", 2)


def test_a_model_that_has_moved_on_is_left_as_it_is(hub: Loopback) -> None:
    here = files_of(get().path)
    hub.commit = "2" * 40
    hub.models[ID]["config.json"] += b"\n"
    again = get()
    assert (again.already, again.revision) == (True, COMMIT)
    assert [note.code for note in again.notes] == ["fetch.note-newer", "fetch.note-code"]
    assert files_of(again.path) == here


def test_without_weights_first_and_with_them_later(hub: Loopback) -> None:
    outline = get(weights=False)
    assert WEIGHTS not in files_of(outline.path)
    assert "tokenizer.json" in files_of(outline.path)
    assert problem(lambda: identify(outline.path)).next("en") == f"finetui fetch {ID}"
    hub.asked.clear()
    whole = get()
    assert whole.fetched_bytes == len(hub.models[ID][WEIGHTS])
    assert [asked.path.rpartition("/")[2] for asked in hub.requests_of("/resolve/")] == [WEIGHTS]
    assert identify(whole.path).source == ID
    assert get(weights=False).already


def test_chosen_files_join_those_that_are_here(hub: Loopback) -> None:
    get()
    fetched = get(files=("*.gguf",))
    assert {"tiny.Q4.gguf", WEIGHTS} <= set(files_of(fetched.path))
    manifest = read_manifest(fetched.path)
    assert manifest is not None
    assert manifest.whole
    assert WEIGHTS in manifest.files
    assert problem(lambda: get(files=("tiny.Q5.gguf",))).next("en") == "--files tiny.Q4.gguf"


def test_any_folder_may_be_written_but_nothing_of_somebody_else(hub: Loopback, tmp_path: Path) -> None:
    out = tmp_path / "disk" / "mine"
    assert get(out=out).path == out
    assert get(out=out).already
    assert identify(out).source == ID
    other = tmp_path / "full"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert refused(lambda: get(out=other)) == ("fetch.taken", 3)
    assert files_of(other) == {"thesis.txt": b"years of work"}


def test_pickles_come_only_where_there_is_nothing_better(hub: Loopback) -> None:
    files = hub.models[ID]
    hub.models["owner/old"] = {name: files[name] for name in ("config.json", "pytorch_model.bin", "tiny.Q4.gguf")}
    old = get("owner/old")
    assert set(old.files) == {"config.json", "pytorch_model.bin"}
    assert [note.code for note in old.notes] == ["fetch.note-pickle"]
    hub.models["owner/run"] = {name: files[name] for name in ("config.json", "tiny.Q4.gguf", "onnx/model.onnx")}
    assert refused(lambda: get("owner/run")) == ("fetch.only-inference", 3)
    hub.models["owner/pictures"] = {"unet/config.json": b"{}", "unet/x.safetensors": b"x"}
    assert refused(lambda: get("owner/pictures")) == ("fetch.no-model", 3)


def test_check_reads_every_byte_and_a_new_fetch_mends(hub: Loopback) -> None:
    path = get().path
    assert check(ID, on_progress=None).is_good
    before = (path / WEIGHTS).stat()
    with (path / WEIGHTS).open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    os.utime(path / WEIGHTS, ns=(before.st_atime_ns, before.st_mtime_ns))  # a disk that rots tells nobody
    (path / "tokenizer.json").unlink()
    checked = check(str(path), on_progress=None)
    assert (checked.absent, [name for name, _, _ in checked.mismatches]) == (("tokenizer.json",), [WEIGHTS])
    mended = get()
    assert mended.fetched_bytes == sum(len(hub.models[ID][name]) for name in (WEIGHTS, "tokenizer.json"))
    assert check(ID, on_progress=None).is_good
    assert refused(lambda: check("nobody/nothing", on_progress=None)) == ("fetch.never-fetched", 3)


def test_two_at_once_fetch_it_once(hub: Loopback) -> None:
    hub.held = threading.Event()
    waits = threading.Event()
    results: list[Fetched] = []

    def second() -> None:
        def tell(facts: Any) -> None:
            if facts["stage"] == "fetch-wait":
                waits.set()

        results.append(fetch(Request(ID), tell))

    first = threading.Thread(target=lambda: results.append(get()))
    first.start()
    while not hub.requests_of(WEIGHTS):
        first.join(0.01)
    other = threading.Thread(target=second)
    other.start()
    assert waits.wait(30)
    hub.held.set()
    first.join(30)
    other.join(30)
    assert sorted(fetched.already for fetched in results) == [False, True]
    assert len(hub.requests_of(f"resolve/{COMMIT}/{WEIGHTS}")) == 1


def test_modelscope_lists_and_serves(hub: Loopback, home: Path) -> None:
    hub.token = "ms-0123456789"
    assert refused(lambda: get(f"modelscope:{ID}")) == ("fetch.modelscope-absent", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELSCOPE_API_TOKEN", hub.token)
        fetched = get(ID, site="modelscope")
    assert (fetched.site, fetched.revision) == ("modelscope", "master")
    assert find_model(ID) == fetched.path == home / "models" / "owner" / "tiny-chat"
    assert identify(fetched.path).source == ID
    assert "m_session_id=ms-0123456789" in hub.requests_of(WEIGHTS)[0].headers["Cookie"]
    hub.token = ""
    assert get().already  # the hub has the same bytes


@pytest.mark.parametrize(
    "words",
    [
        "{hub}/owner/tiny-chat",
        "{hub}/owner/tiny-chat/tree/main",
        "{hub}/owner/tiny-chat/blob/main/config.json",
        "{hub}/owner/tiny-chat/resolve/main/model.safetensors?download=true",
        "hf://owner/tiny-chat",
    ],
)
def test_the_address_of_a_page_is_understood(hub: Loopback, words: str) -> None:
    fetched = get(words.format(hub=hub.address))
    assert (fetched.source, fetched.kind) == (ID, "model")
    assert WEIGHTS in fetched.files


def test_an_adapter_is_told_apart(hub: Loopback) -> None:
    hub.models["owner/lora"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w" * 2000}
    assert [note.code for note in get("owner/lora").notes] == ["fetch.note-adapter"]


def test_models_of_other_sites_are_no_models_of_this_place(hub: Loopback) -> None:
    with serving(Loopback(models={ID: {**hub.models[ID], "README.md": b"other"}})) as other:
        get()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MODELSCOPE_ENDPOINT", other.address)
            assert refused(lambda: get(f"modelscope:{ID}")) == ("fetch.taken", 3)


def test_a_half_fetch_is_offered_to_nobody(hub: Loopback, home: Path) -> None:
    hub.wrong[WEIGHTS] = bytes(len(hub.models[ID][WEIGHTS]))
    assert refused(get) == ("fetch.wrong-digest", 4)
    assert (home / "models" / "owner" / ".tiny-chat.part").is_dir()
    assert list(everywhere()) == []
    assert refused(lambda: find_model(ID)) == ("models.not-found", 3)
