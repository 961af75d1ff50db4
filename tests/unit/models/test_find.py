"""Models are found by path, by name, by hub id and by their digests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from finetui.core.errors import FinetuiError
from finetui.models import demo, find_by_identity, find_model, identify

pytestmark = pytest.mark.unit

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches of the hubs."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))


def put(model: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(model, folder))


def in_hub_cache(model: Path, cache: Path) -> Path:
    """As huggingface_hub lays it out: blobs, and links to them."""
    repository = cache / "models--owner--tiny-chat"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        shutil.copy(path, repository / "blobs" / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    return snapshot


def test_a_path_is_taken_as_it_is(tiny_model: Path) -> None:
    assert find_model(str(tiny_model)) == tiny_model


def test_a_name_under_models(tiny_model: Path, home: Path) -> None:
    folder = put(tiny_model, home / "models" / "mine")
    assert find_model("mine") == folder


def test_a_hub_id_in_the_hub_cache(tiny_model: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(tiny_model, tmp_path / "hub")
    assert find_model("owner/tiny-chat") == snapshot
    facts = identify(snapshot)
    assert (facts.name, facts.source, facts.revision) == ("tiny-chat", "owner/tiny-chat", REVISION)
    assert find_by_identity(facts.identity, facts.files) == snapshot


def test_a_hub_id_in_the_modelscope_cache(tiny_model: Path, tmp_path: Path) -> None:
    folder = put(tiny_model, tmp_path / "modelscope" / "models" / "owner" / "tiny-0___5B")
    assert find_model("owner/tiny-0.5B") == folder
    assert identify(folder).source == "owner/tiny-0.5B"


def test_an_unknown_name_is_answered_with_the_nearest(tiny_model: Path, home: Path) -> None:
    put(tiny_model, home / "models" / "company-chat")
    with pytest.raises(FinetuiError) as caught:
        find_model("company-chta")
    assert caught.value.exit_code == 3
    assert caught.value.problems[0].next("en") == "--model company-chat"


@pytest.mark.parametrize("reference", ["../escape", "/nowhere/at/all", "~nobody", "a/../../b", ""])
def test_what_is_nowhere_is_not_found(reference: str, home: Path) -> None:
    with pytest.raises(FinetuiError) as caught:
        find_model(reference)
    assert caught.value.problems[0].code == "models.not-found"


def test_a_file_is_no_folder(tiny_model: Path) -> None:
    with pytest.raises(FinetuiError) as caught:
        find_model(str(tiny_model / "config.json"))
    assert caught.value.problems[0].code == "models.not-a-folder"


def test_by_identity_under_another_name_and_saved_by_another_version(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = identify(tiny_model)
    folder = put(tiny_model, tmp_path / "disk" / "owner" / "renamed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_version": "9.9"}))
    put(tiny_model, tmp_path / "disk" / "other")
    (tmp_path / "disk" / "other" / "chat_template.jinja").write_text("another template")
    assert find_by_identity(wanted.identity, wanted.files) is None
    monkeypatch.setenv("FINETUI_MODELS", f"/nowhere:{tmp_path / 'disk'}")
    assert find_by_identity(wanted.identity, wanted.files) == folder
    assert find_by_identity(wanted.identity, wanted.files, near=[tmp_path, tiny_model]) == tiny_model


def test_the_weights_of_another_model_are_not_read(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = identify(tiny_model)
    other = put(tiny_model, tmp_path / "other")
    (other / "tokenizer_config.json").write_text("{}")
    read: list[str] = []
    monkeypatch.setattr("finetui.models.digests.sha256_file", lambda path: read.append(path.name) or "0")
    assert find_by_identity(wanted.identity, wanted.files, near=[other]) is None
    assert "model.safetensors" not in read


def test_the_demo_model_is_made_where_a_bundle_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.models.demo.fetch_demo", lambda on_progress: tmp_path)
    assert find_by_identity(demo.identity(), dict.fromkeys(demo.FILES, "")) == tmp_path
