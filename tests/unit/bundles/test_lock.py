"""Locking: the folder as designed, the same id for the same inputs, and never half a bundle."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from finetui.bundles.folder import Bundle
from finetui.bundles.plan import bundle_name
from finetui.bundles.rows import content_digest, read_rows
from finetui.core.errors import FinetuiError
from finetui.core.files import pretty_json
from tests.unit.bundles.conftest import RECIPE, RECORDS, SETTINGS, Lock

pytestmark = pytest.mark.unit


def codes(error: pytest.ExceptionInfo[FinetuiError]) -> list[str]:
    return [problem.code for problem in error.value.problems]


def test_a_bundle_holds_what_the_design_says_and_nothing_else(bundle: Path) -> None:
    top = sorted(path.name for path in bundle.iterdir())
    assert top == ["data", "env", "launch.sh", "lock.json", "manifest-sha256.txt", "recipe.toml", "train"]
    assert [path.name for path in (bundle / "data").iterdir()] == ["train.parquet"]
    assert (bundle / "recipe.toml").read_text() == RECIPE
    assert (bundle / "env/requirements.txt").read_text() == "numpy==2.4.6\ntransformers==5.17.0\n"
    assert (bundle / "train/main.py").is_file()
    assert not [path for path in bundle.rglob("*") if path.suffix == ".pyc" or path.name == "__pycache__"]
    assert os.access(bundle / "launch.sh", os.X_OK)


def test_sha256sum_checks_the_manifest(bundle: Path) -> None:
    done = subprocess.run(["sha256sum", "--strict", "-c", "manifest-sha256.txt"], cwd=bundle, capture_output=True)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len([path for path in bundle.rglob("*") if path.is_file()]) - 1


def test_the_launch_script_carries_name_world_size_and_variables_of_the_lock(lock: Lock, tmp_path: Path) -> None:
    path = lock(tmp_path / "b", world_size=2, threads=3, name="数-1").path
    block = (path / "launch.sh").read_text().split("# >>> lock\n")[1].split("# <<< lock\n")[0]
    assert block.splitlines()[:2] == ['NAME="数-1"', "NPROC=2"]
    exported = dict(line.removeprefix("export ").split("=", 1) for line in block.splitlines()[2:])
    assert exported == {name: f'"{value}"' for name, value in Bundle.load(path).lock["environment"].items()}
    assert exported["OMP_NUM_THREADS"] == '"3"'
    assert subprocess.run(["bash", "-n", path / "launch.sh"]).returncode == 0


def test_the_lock_is_sorted_indented_json_with_every_setting_and_its_reason(bundle: Path) -> None:
    lock = Bundle.load(bundle).lock
    assert (bundle / "lock.json").read_text() == pretty_json(lock)
    assert lock["training"] == {knob: {"value": value, "reason": why} for knob, (value, why) in SETTINGS.items()}
    assert (lock["version"], lock["revision"], lock["steps"], lock["world_size"]) == (0, 0, 3, 1)
    assert lock["data"]["train"]["rows"] == len(RECORDS)
    assert lock["data"]["train"]["digest"] == content_digest(read_rows(bundle / "data/train.parquet"))
    assert lock["data"]["eval"] is None


def test_two_locks_of_the_same_inputs_have_one_id(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lock(tmp_path / "one" / "a.bundle")
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    second = lock(Path("b.bundle"))
    assert first.id == second.id == Bundle.load(second.path).id
    assert second.path.is_absolute()
    private = re.compile(rf"{re.escape(str(tmp_path))}|\bsomebody\b|\b{re.escape(os.uname().nodename)}\b")
    assert not private.search((first.path / "lock.json").read_text())


def test_any_other_input_gives_another_id(lock: Lock, tmp_path: Path) -> None:
    ids = {
        lock(tmp_path / "a").id,
        lock(tmp_path / "b", RECORDS[1:]).id,
        lock(tmp_path / "c", list(reversed(RECORDS))).id,
        lock(tmp_path / "d", settings={**SETTINGS, "seed": (8, "test")}).id,
        lock(tmp_path / "e", recipe_text=RECIPE + "\n").id,
        lock(tmp_path / "f", threads=2).id,
    }
    assert len(ids) == 6


def test_what_is_there_already_is_refused_and_left_alone(lock: Lock, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(FinetuiError) as error:
        lock(out)
    assert codes(error) == ["bundles.exists"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("mine")] == ["mine"]
    assert (out / "thesis.txt").read_text() == "years of work"


def test_somebody_elses_folder_under_the_working_name_is_left_alone(lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "b.part").mkdir()
    (tmp_path / "b.part/thesis.txt").write_text("years of work")
    with pytest.raises(FinetuiError) as error:
        lock(tmp_path / "b")
    assert codes(error) == ["bundles.exists"]
    assert (tmp_path / "b.part/thesis.txt").exists()


def test_an_interrupted_lock_leaves_nothing(lock: Lock, tmp_path: Path) -> None:
    def interrupted():
        yield from RECORDS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lock(tmp_path / "b", interrupted())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("b")]


def test_what_a_killed_lock_left_is_cleared_away(lock: Lock, tmp_path: Path) -> None:
    left = tmp_path / "b.part"
    (left / "data").mkdir(parents=True)
    (left / ".claim").touch()
    (left / "data/train.parquet").write_bytes(b"half")
    assert lock(tmp_path / "b").id == lock(tmp_path / "c").id
    assert not left.exists()


def test_two_locks_to_one_place_do_not_mix(lock: Lock, tmp_path: Path) -> None:
    def meanwhile():
        yield from RECORDS
        with pytest.raises(FinetuiError) as error:
            lock(tmp_path / "b")
        assert codes(error) == ["bundles.busy"]

    assert lock(tmp_path / "b", meanwhile()).id == lock(tmp_path / "c").id


@pytest.mark.parametrize("name", ["", "../up", "a b", "-rf", "$(id)", 'a"b', "x" * 101, "."])
def test_a_name_that_a_shell_or_a_path_would_obey_is_refused(lock: Lock, tmp_path: Path, name: str) -> None:
    with pytest.raises(FinetuiError) as error:
        lock(tmp_path / "b", name=name)
    assert codes(error) == ["bundles.bad-name"]


@pytest.mark.parametrize(
    ("out", "name"),
    [
        ("x/demo.bundle", "demo"),
        ("我的 数据.bundle", "我的-数据"),
        ("..", "bundle"),
        ("-x$(id)", "x-id-"),
        ("a.b", "a.b"),
    ],
)
def test_any_path_gives_a_usable_name(lock: Lock, tmp_path: Path, out: str, name: str) -> None:
    assert bundle_name(Path(out)) == name
    assert lock(tmp_path / "b", name=name).path.exists()
