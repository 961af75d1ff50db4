"""What a user may name as data: paths, folders, several, weights; and what is said where that is wrong."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.core.errors import BAD_INPUT, USAGE, FinetuiError
from finetui.data import convert, inspect
from finetui.data.sources.find import find_files
from tests.unit.data.write import ALPACA, MESSAGES, SHAREGPT, put, records

pytestmark = pytest.mark.unit


def refused(*specs: str | Path) -> FinetuiError:
    with pytest.raises(FinetuiError) as caught:
        find_files(specs)
    return caught.value


def codes(error: FinetuiError) -> list[str]:
    return [problem.code for problem in error.problems]


def test_every_file_knows_its_dataset_and_its_weight(tmp_path: Path) -> None:
    one, folder = put(tmp_path / "one.jsonl", ALPACA), tmp_path / "more"
    folder.mkdir()
    put(folder / "a.jsonl", ALPACA)
    put(folder / "b.jsonl", ALPACA)
    files, _ = find_files([f"{one}@2", f"{folder}@0.5"])
    assert [(found.file.path.name, found.dataset, found.weight) for found in files] == [
        ("one.jsonl", str(one), 2.0),
        ("a.jsonl", str(folder), 0.5),
        ("b.jsonl", str(folder), 0.5),
    ]


@pytest.mark.parametrize("name", ["a@2.jsonl", "rows@2", "x:y.jsonl", "a,b:c@0.5", "@3", "-", "~", "a b#c%20.json"])
def test_a_path_that_is_there_wins_over_any_other_reading_of_it(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, ALPACA)
    ((found,), _) = find_files([str(path)])
    assert (found.file.path, found.weight) == (path, 1.0)
    ((found,), _) = find_files([f"{path}@3"])
    assert (found.file.path, found.weight) == (path, 3.0)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "1e999", "two", "", "0x2"])
def test_a_weight_that_is_no_number_above_zero_is_a_usage_error(tmp_path: Path, weight: str) -> None:
    error = refused(f"{put(tmp_path / 'rows.jsonl', ALPACA)}@{weight}")
    assert (codes(error), error.exit_code) == (["sources.weight"], USAGE)


def test_all_obstacles_are_told_at_once(tmp_path: Path) -> None:
    put(tmp_path / "empty.jsonl", b"")
    rows = put(tmp_path / "rows.jsonl", ALPACA)
    (tmp_path / "hollow").mkdir()
    error = refused(tmp_path / "nope", tmp_path / "empty.jsonl", f"{rows}@0", tmp_path / "hollow", f"{tmp_path}:x", "")
    assert codes(error) == [
        "data.no-such-path",
        "data.empty-file",
        "sources.weight",
        "data.no-data-in-folder",
        "sources.no-names",
        "data.no-such-path",
    ]
    assert error.exit_code == BAD_INPUT


def test_names_that_are_no_paths_are_told_not_raised(tmp_path: Path) -> None:
    for words in ("x" * 5000, "a\0b", "\udcff", ":", "@", ":::", "@@2", f"{tmp_path}:", "a/b:c@d"):
        error = refused(words) if words != f"{tmp_path}:" else refused(f"{tmp_path}:")
        assert error.problems[0].message("en")
        assert error.problems[0].message("zh")


def test_a_folder_is_its_data_without_what_stands_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "one.jsonl", MESSAGES)
    (tmp_path / "sub").mkdir()
    put(tmp_path / "sub" / "two.json", json.dumps(MESSAGES).encode())
    for beside in (
        "README.md",
        "LICENSE",
        "load.py",
        "setup.cfg",
        ".hidden.jsonl",
        "dataset_infos.json",
        "config.json",
    ):
        put(tmp_path / beside, b'{"a": "text that is no data"}\n')
    put(tmp_path / "Makefile", b"all:\n\techo nothing to do\n")
    put(tmp_path / "image.png", b"\x89PNG\r\n\x1a\n\0\0")
    put(tmp_path / "_SUCCESS", b"")
    files, (note,) = find_files([tmp_path])
    assert [found.file.path.name for found in files] == ["one.jsonl", "two.json"]
    assert "9 files" in note.text("en")


def test_nothing_of_a_folder_is_passed_over_without_a_word(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    put(folder / "one.jsonl", MESSAGES)
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.jsonl")
    files, (note,) = find_files([folder])
    assert [found.file.path.name for found in files] == ["one.jsonl"]
    assert "linked" in note.text("en")
    assert "pipe.jsonl" in note.text("en")
    (folder / "two.jsonl").symlink_to("gone.jsonl")
    (folder / "README.md").symlink_to("gone.md")
    error = refused(folder)
    assert [(problem.code, problem.file) for problem in error.problems] == [
        ("data.unreadable", str(folder / "two.jsonl"))
    ]


def test_a_folder_that_cannot_be_looked_into_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "one.jsonl", MESSAGES)
    closed = tmp_path / "closed"
    closed.mkdir()
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    error = refused(tmp_path)
    assert [(problem.code, problem.file) for problem in error.problems] == [("data.unreadable", str(closed))]


def test_a_path_that_may_not_be_looked_at_is_not_called_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: Path, **_: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "stat", stat)
    assert codes(refused(tmp_path / "closed" / "rows.jsonl")) == ["data.unreadable"]


def test_what_was_converted_into_a_folder_is_not_read_with_what_it_came_of(tmp_path: Path) -> None:
    put(tmp_path / "rows.jsonl", ALPACA)
    first = convert([tmp_path], tmp_path / "out")
    again = convert([tmp_path], tmp_path / "out")
    assert again.to_json()["out"] == first.to_json()["out"]
    assert again.to_json()["rows"] == first.to_json()["rows"]
    assert str(tmp_path / "out") in again.to_json()["evidence"][-1]
    convert([put(tmp_path / "table.jsonl", [{"a": "x", "b": "y"}] * 3)], tmp_path)
    files, _ = find_files([tmp_path])
    assert [found.file.path.name for found in files] == ["rows.jsonl", "table.jsonl"]
    for name in ("rows.jsonl", "table.jsonl", "report.json"):
        (tmp_path / name).unlink()
    files, _ = find_files([tmp_path])
    assert [found.file.path.name for found in files] == ["data.jsonl"]


def test_an_archive_in_a_folder_is_an_error_since_it_could_be_the_data(tmp_path: Path) -> None:
    put(tmp_path / "one.jsonl", MESSAGES)
    put(tmp_path / "more.zip", b"PK\x03\x04" + bytes(60))
    assert codes(refused(tmp_path)) == ["data.foreign-container"]


def test_a_folder_with_a_train_and_a_test_file_trains_on_the_first_and_says_so(tmp_path: Path) -> None:
    put(tmp_path / "train.jsonl", ALPACA)
    put(tmp_path / "test.jsonl", ALPACA)
    put(tmp_path / "more.jsonl", ALPACA)
    files, notes = find_files([tmp_path])
    assert [found.file.path.name for found in files] == ["more.jsonl", "train.jsonl"]
    assert "test" in notes[0].text("en")
    ((held,), _) = find_files([f"{tmp_path}:test"])
    assert held.file.path.name == "test.jsonl"


def test_a_file_called_test_alone_is_data(tmp_path: Path) -> None:
    put(tmp_path / "test.jsonl", ALPACA)
    put(tmp_path / "other.jsonl", ALPACA)
    files, notes = find_files([tmp_path])
    assert (len(files), notes) == (2, [])


def test_files_of_different_layouts_are_named_and_not_converted(tmp_path: Path) -> None:
    one, two = put(tmp_path / "one.jsonl", ALPACA), put(tmp_path / "two.jsonl", SHAREGPT)
    contract = inspect([one, two]).to_json()
    assert contract["format"] is None
    conversion = convert([one, two], tmp_path / "out")
    assert conversion.exit_code == BAD_INPUT
    (problem,) = conversion.refusals()
    assert "one.jsonl: alpaca" in problem.message("en")
    assert "two.jsonl: sharegpt" in problem.message("en")


def test_the_one_file_of_another_layout_is_named_among_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        put(tmp_path / f"a{number}.jsonl", ALPACA)
    assert run(["inspect", str(tmp_path), "--plain"]) == 0
    assert "and 8 more" in capsys.readouterr().out
    put(tmp_path / "z.jsonl", SHAREGPT)
    (problem,) = inspect([tmp_path]).refusals()
    assert f"{tmp_path / 'z.jsonl'}: sharegpt; {tmp_path / 'a0.jsonl'}: alpaca (+19)" in problem.message("en")


def test_a_converted_folder_is_read_again_as_what_it_is(tmp_path: Path) -> None:
    convert([put(tmp_path / "rows.jsonl", ALPACA)], tmp_path / "once")
    convert([tmp_path / "once"], tmp_path / "twice")
    assert records(tmp_path / "once") == records(tmp_path / "twice")
