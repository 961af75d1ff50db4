"""Hugging Face dataset folders and the local hub cache: which files are read, which splits are named instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetui.core.errors import USAGE, FinetuiError
from finetui.data import inspect
from finetui.data.sources.find import find_files
from tests.unit.data.write import ALPACA, put

pytestmark = pytest.mark.unit


def saved(folder: Path, rows: list[Any], shards: int = 1) -> Path:
    """What `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{shards:05}.arrow" for number in range(shards)]
    for number, name in enumerate(names):
        table = pa.Table.from_pylist(rows[number::shards])
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"instruction": {"dtype": "string"}}}))
    return folder


def found(spec: str | Path, root: Path) -> list[str]:
    return [each.file.path.relative_to(root).as_posix() for each in find_files([spec])[0]]


def said(spec: str | Path) -> str:
    return " ".join(note.text("en") for note in find_files([spec])[1])


def refused(spec: str | Path) -> FinetuiError:
    with pytest.raises(FinetuiError) as caught:
        find_files([spec])
    return caught.value


def tree(folder: Path, *files: str, card: str | None = None) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        put(folder / file, ALPACA)
    if card is not None:
        (folder / "README.md").write_text(f"---\n{card}\n---\n# A dataset\n", encoding="utf-8")
    return folder


def test_a_saved_dataset_is_read_in_the_order_of_its_shards(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", ALPACA, shards=2)
    assert found(folder, folder) == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert inspect([folder]).to_json()["rows"]["usable"] == 3


def test_of_saved_splits_train_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    for split in ("test", "train"):
        saved(tmp_path / "all" / split, ALPACA)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert found(tmp_path / "all", tmp_path) == ["all/train/data-00000-of-00001.arrow"]
    assert ":test" in said(tmp_path / "all")
    assert found(f"{tmp_path / 'all'}:test", tmp_path) == ["all/test/data-00000-of-00001.arrow"]
    assert len(found(f"{tmp_path / 'all'}:test,train", tmp_path)) == 2
    error = refused(f"{tmp_path / 'all'}:validation")
    assert (error.problems[0].code, error.exit_code) == ("sources.no-such-split", USAGE)


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (
            [
                "data/train-00000-of-00002.jsonl",
                "data/train-00001-of-00002-ab12.jsonl",
                "data/test-00000-of-00001.jsonl",
            ],
            2,
        ),
        (["train.jsonl", "validation.jsonl"], 1),
        (["my_train_file.jsonl", "my-test-file.jsonl"], 1),
        (["train/a.jsonl", "train/deep/b.jsonl", "dev/c.jsonl"], 2),
        (["en-train/a.jsonl", "en-eval/a.jsonl"], 1),
        (["retrain.jsonl", "contest.jsonl"], 2),
        (["training.part.jsonl", "testing.jsonl"], 1),
    ],
)
def test_splits_by_the_names_of_shards_folders_and_files(tmp_path: Path, files: list[str], read: int) -> None:
    assert len(found(tree(tmp_path / "set", *files, card="license: mit"), tmp_path)) == read


CARD = """
configs:
- config_name: zh
  data_files:
  - split: train
    path: zh/part-*
  - split: validation
    path: "zh/held.jsonl"
- config_name: en
  default: true
  data_files:
  - split: train
    path: [en/**, "more/{a,b}.jsonl"]
"""


def test_configurations_of_the_card(tmp_path: Path) -> None:
    files = ("zh/part-1.jsonl", "zh/part-2.jsonl", "zh/held.jsonl", "en/deep/1.jsonl", "more/a.jsonl", "more/c.jsonl")
    folder = tree(tmp_path / "set", *files, card=CARD)
    assert found(folder, folder) == ["en/deep/1.jsonl", "more/a.jsonl"]
    assert "zh/validation" in said(folder)
    assert found(f"{folder}:zh", folder) == ["zh/part-1.jsonl", "zh/part-2.jsonl"]
    assert found(f"{folder}:zh/validation", folder) == ["zh/held.jsonl"]
    assert refused(f"{folder}:fr").problems[0].code == "sources.no-such-split"
    assert refused(f"{folder}:zh/test").problems[0].code == "sources.no-such-split"


def test_a_configuration_by_its_folder(tmp_path: Path) -> None:
    card = "configs:\n- config_name: a\n  data_dir: a\n- config_name: b\n  data_dir: b"
    folder = tree(tmp_path / "set", "a/train.jsonl", "a/test.jsonl", "b/rows.jsonl", card=card)
    assert refused(folder).problems[0].code == "sources.which-config"
    assert found(f"{folder}:a", folder) == ["a/train.jsonl"]
    assert found(f"{folder}:a/test", folder) == ["a/test.jsonl"]
    assert found(f"{folder}:b", folder) == ["b/rows.jsonl"]


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("configs: [", "sources.broken-card"),
        ("configs: all", "sources.broken-card"),
        ("configs:\n- data_files: x", "sources.broken-card"),
        ("configs:\n- config_name: a\n  data_files: absent/*.jsonl", "sources.empty-split"),
        ("configs:\n- config_name: a\n  data_files: ../../*", "sources.empty-split"),
        ("configs:\n- config_name: a\n  data_files: /etc/passwd", "sources.empty-split"),
        ("configs:\n- config_name: a\n  data_files: '[[[*('", "sources.empty-split"),
    ],
)
def test_a_broken_card_is_told(tmp_path: Path, card: str, code: str) -> None:
    assert refused(tree(tmp_path / "set", "rows.jsonl", card=card)).problems[0].code == code


def test_metadata_that_is_no_card_does_not_keep_a_folder_from_being_read(tmp_path: Path) -> None:
    assert found(tree(tmp_path / "set", "rows.jsonl", card="title: [unclosed"), tmp_path) == ["set/rows.jsonl"]


def test_splits_of_which_none_is_for_training_must_be_named(tmp_path: Path) -> None:
    folder = tree(tmp_path / "set", "data/a-00000-of-00001.jsonl", "data/b-00000-of-00001.jsonl")
    error = refused(folder)
    assert (error.problems[0].code, error.exit_code) == ("sources.which-split", USAGE)
    assert found(f"{folder}:b", folder) == ["data/b-00000-of-00001.jsonl"]


@pytest.mark.parametrize("state", ["{}", "[]", "nonsense", '{"_data_files": [{"filename": "../x"}]}'])
def test_a_broken_saved_dataset_is_told(tmp_path: Path, state: str) -> None:
    folder = saved(tmp_path / "set", ALPACA)
    (folder / "state.json").write_text(state)
    assert refused(folder).problems[0].code == "sources.broken-dataset"


def test_a_shard_that_is_absent_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", ALPACA, shards=2)
    (folder / "data-00001-of-00002.arrow").unlink()
    (problem,) = refused(folder).problems
    assert (problem.code, problem.file) == ("data.no-such-path", str(folder / "data-00001-of-00002.arrow"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    return tmp_path


def test_a_hub_id_is_found_in_the_cache_at_its_main_revision(cache: Path) -> None:
    repository = cache / "hub" / "datasets--owner--name.v1"
    for revision in ("old", "new"):
        tree(repository / "snapshots" / revision, "train.jsonl", "test.jsonl")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("old")
    assert found("owner/name.v1", repository / "snapshots") == ["old/train.jsonl"]
    assert found("owner/name.v1:test@0.5", repository / "snapshots") == ["old/test.jsonl"]
    assert found(repository, repository / "snapshots") == ["old/train.jsonl"]
    ((file,), _) = find_files(["owner/name.v1@2"])
    assert (file.dataset, file.weight) == ("owner/name.v1", 2.0)


def test_a_dataset_without_an_owner_and_one_of_modelscope(cache: Path) -> None:
    tree(cache / "hub" / "datasets--squad" / "snapshots" / "abc", "rows.jsonl")
    tree(cache / "modelscope" / "datasets" / "owner" / "set___v1", "rows.jsonl")
    assert len(found("squad", cache)) == 1
    assert len(found("owner/set.v1", cache)) == 1


def test_a_hub_id_that_was_not_fetched_says_how_to_fetch_it(cache: Path) -> None:
    (problem,) = refused("nobody/nothing").problems
    assert problem.code == "sources.not-fetched"
    assert problem.next("en") == "finetui fetch --dataset nobody/nothing"
    assert refused("nowhere/rows.jsonl").problems[0].code == "data.no-such-path"


def test_a_path_wins_over_a_hub_id(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(cache / "hub" / "datasets--owner--name" / "snapshots" / "abc", "rows.jsonl")
    monkeypatch.chdir(cache)
    tree(cache / "owner" / "name", "mine.jsonl")
    assert [each.file.path.name for each in find_files(["owner/name"])[0]] == ["mine.jsonl"]
