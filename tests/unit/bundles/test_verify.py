"""Verifying: nothing that differs from what was locked goes unseen, and nothing in a hostile folder is obeyed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from finetui.bundles import evidence
from finetui.bundles.verify import verify
from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.core.files import sha256_file
from finetui.models import demo
from finetui.models.identify import identify
from tests.unit.bundles.conftest import Lock

pytestmark = pytest.mark.unit


@pytest.fixture
def whole(bundle: Path, run_dir: Path) -> Path:
    """A bundle with evidence."""
    assert evidence.write(bundle, run_dir) == bundle / "evidence"
    return bundle


def files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def changed(bundle: Path) -> list[str]:
    """The paths that verify names; it must not be content."""
    found = verify(bundle)
    assert found["ok"] is False
    return [mismatch["path"] for mismatch in found["mismatches"]]


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_an_untouched_bundle_is_verified_and_its_id_is_the_digest_of_its_manifest(whole: Path) -> None:
    found = verify(whole)
    assert (found["ok"], found["mismatches"]) == (True, [])
    assert found["id"] == sha256_file(whole / "manifest-sha256.txt")


def test_a_flipped_bit_is_found_in_every_file(whole: Path) -> None:
    for path in files(whole):
        intact = path.read_bytes()
        for position in {0, len(intact) // 2, len(intact) - 1} if intact else set():
            flip(path, position)
            assert path.relative_to(whole).as_posix() in changed(whole) or path.name == "manifest-sha256.txt", path
            path.write_bytes(intact)
    assert verify(whole)["ok"]


@tries(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_of_manifests_evidence_and_lock_is_found(whole: Path, data: st.DataObject) -> None:
    small = [path for path in files(whole) if path.suffix in (".txt", ".json", ".jsonl")]
    path = data.draw(st.sampled_from(small))
    intact = path.read_bytes()
    flip(path, data.draw(st.integers(0, len(intact) - 1)), data.draw(st.integers(0, 7)))
    try:
        assert changed(whole)
    finally:
        path.write_bytes(intact)


def test_a_mismatch_names_both_digests(whole: Path) -> None:
    path = whole / "recipe.toml"
    before = sha256_file(path)
    path.write_text("changed")
    assert verify(whole)["mismatches"] == [{"path": "recipe.toml", "expected": before, "actual": sha256_file(path)}]


def test_a_removed_file_is_found(whole: Path) -> None:
    for path in files(whole):
        aside = whole.parent / "aside"
        path.rename(aside)
        assert path.relative_to(whole).as_posix() in changed(whole), path
        aside.rename(path)


@pytest.mark.parametrize("name", ["extra.txt", "data/eval.parquet", "train/__pycache__/main.pyc", "evidence/more.json"])
def test_an_added_file_is_found(whole: Path, name: str) -> None:
    path = whole / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    assert verify(whole)["mismatches"] == [{"path": name, "expected": None, "actual": sha256_file(path)}]


def test_a_renamed_file_is_found_under_both_names(whole: Path) -> None:
    (whole / "recipe.toml").rename(whole / "recipe2.toml")
    assert changed(whole) == ["recipe.toml", "recipe2.toml"]


def test_a_truncated_and_a_longer_file_are_found(whole: Path) -> None:
    path = whole / "train/main.py"
    with path.open("ab") as stream:
        stream.write(b"\n")
    assert changed(whole) == ["train/main.py"]
    path.write_bytes(b"")
    assert changed(whole) == ["train/main.py"]


def test_a_large_file_is_read_to_its_end(whole: Path) -> None:
    large = whole / "large"
    large.write_bytes(bytes(3 << 20) + b"end")
    assert verify(whole)["mismatches"][0]["actual"] == sha256_file(large)


def manifest_of(bundle: Path) -> Path:
    return bundle / "manifest-sha256.txt"


FORMS: dict[str, Callable[[str], str]] = {
    "reversed": lambda text: "".join(sorted(text.splitlines(True), reverse=True)),
    "a line twice": lambda text: text + text.splitlines(True)[-1],
    "a line twice with another digest first": lambda text: f"{'0' * 64}{text[64 : text.index(chr(10)) + 1]}" + text,
    "binary marks": lambda text: text.replace("  ", " *"),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "capital digits": lambda text: text.upper(),
    "no last newline": lambda text: text.removesuffix("\n"),
    "an empty line": lambda text: text + "\n",
    "a comment": lambda text: "# all is well\n" + text,
    "a byte order mark": lambda text: "\ufeff" + text,
    "a path outside": lambda text: f"{'0' * 64}  ../outside\n" + text,
    "an absolute path": lambda text: text + f"{'0' * 64}  /etc/passwd\n",
    "a path through a dot": lambda text: text.replace("  recipe.toml", "  ./recipe.toml"),
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_evidence", [True, False])
def test_a_manifest_of_another_form_is_a_mismatch(bundle: Path, run_dir: Path, form: str, with_evidence: bool) -> None:
    if with_evidence:
        evidence.write(bundle, run_dir)
    manifest_of(bundle).write_bytes(FORMS[form](manifest_of(bundle).read_text()).encode())
    assert changed(bundle)


def test_a_bundle_and_manifest_changed_together_differ_from_the_evidence(whole: Path) -> None:
    before = verify(whole)["id"]
    digest = sha256_file(whole / "recipe.toml")
    (whole / "recipe.toml").write_text("changed")
    text = manifest_of(whole).read_text().replace(digest, sha256_file(whole / "recipe.toml"))
    manifest_of(whole).write_text(text)
    found = verify(whole)
    assert found["mismatches"] == [{"path": "manifest-sha256.txt", "expected": before, "actual": found["id"]}]


def test_evidence_of_another_bundle_is_a_mismatch(whole: Path) -> None:
    path = whole / "evidence/evidence.json"
    before = sha256_file(path)
    path.write_text(path.read_text().replace(verify(whole)["id"], "f" * 64))
    listing = whole / "evidence/manifest-sha256.txt"
    listing.write_text(listing.read_text().replace(before, sha256_file(path)))
    assert changed(whole) == ["manifest-sha256.txt"]


def test_a_gutted_bundle_whose_manifest_agrees_is_still_none(bundle: Path) -> None:
    (bundle / "launch.sh").unlink()
    lines = manifest_of(bundle).read_text().splitlines(True)
    manifest_of(bundle).write_text("".join(line for line in lines if not line.endswith("  launch.sh\n")))
    assert changed(bundle) == ["launch.sh"]


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "symlink to a file": (lambda path: path.symlink_to("/etc/passwd"), "symlink"),
    "symlink to a folder": (lambda path: path.symlink_to("/etc"), "symlink"),
    "dangling symlink": (lambda path: path.symlink_to("/nowhere"), "symlink"),
    "symlink inside": (lambda path: path.symlink_to("recipe.toml"), "symlink"),
    "named pipe": (lambda path: os.mkfifo(path), "special file"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_plain_file_is_neither_followed_nor_opened(whole: Path, kind: str) -> None:
    make, word = ODD[kind]
    make(whole / "data/odd")
    assert verify(whole)["mismatches"] == [{"path": "data/odd", "expected": None, "actual": word}]


@pytest.mark.parametrize("name", ["recipe.toml", "lock.json", "manifest-sha256.txt", "train", "evidence"])
def test_a_part_replaced_by_a_link_to_an_equal_one_is_a_mismatch(whole: Path, name: str) -> None:
    outside = whole.parent / "outside"
    shutil.move(whole / name, outside)
    (whole / name).symlink_to(outside)
    assert changed(whole)


@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"not-utf8-\xff", b"escape\x1b[2J"])
def test_a_file_name_that_no_manifest_can_hold_is_a_mismatch(
    whole: Path, name: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (whole / os.fsdecode(name)).touch()
    assert verify(whole)["mismatches"][0]["actual"] == "file name"
    assert run(["verify", str(whole)]) == 4
    assert "\x1b" not in capfd.readouterr().err


def test_hostile_names_are_told_harmlessly_and_each_once(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (whole / "x\x1b]52;c;aGk=\x07\n[x]\u202e").write_text("")
    manifest = whole / "manifest-sha256.txt"
    manifest.write_text(manifest.read_text() + f"{'0' * 64}  ../../etc/passwd\n")
    assert run(["verify", str(whole), "--json"]) == 4
    shown = capfd.readouterr()
    paths = [mismatch["path"] for mismatch in json.loads(shown.out)["mismatches"]]
    assert paths == ["../../etc/passwd", "x⏎[x]�", "manifest-sha256.txt"]
    assert "\x1b" not in shown.err
    assert "\n[x]" not in shown.err


def test_the_command_says_ok_with_0_and_differences_with_4(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(whole), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["ok"], told["mismatches"], list(told)) == (True, [], ["ok", "id", "absent", "mismatches"])
    (whole / "recipe.toml").write_text("changed")
    assert run(["verify", str(whole), "--json"]) == 4
    assert json.loads(capfd.readouterr().out)["mismatches"][0]["path"] == "recipe.toml"
    assert run(["verify", str(whole), "--lang", "zh"]) == 4
    assert "recipe.toml：应为" in capfd.readouterr().err


def test_a_model_that_is_not_here_is_absent_and_no_mismatch(
    whole: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = verify(whole)
    assert found["ok"]
    assert [(missing["what"], missing["name"]) for missing in found["absent"]] == [("model", "tiny")]
    monkeypatch.setenv("FINETUI_MODELS", str(tiny_model.parent))
    assert verify(whole)["absent"] == []


def test_verifying_fetches_no_model(lock: Lock, tmp_path: Path, tiny_model: Path) -> None:
    path = lock(tmp_path / "b", model=replace(identify(tiny_model), identity=demo.identity())).path
    assert [missing["sha256"] for missing in verify(path)["absent"]] == [demo.identity()]


def refused(path: Path) -> list[str]:
    with pytest.raises(FinetuiError) as error:
        verify(path)
    assert error.value.exit_code == 3
    return [problem.code for problem in error.value.problems]


def test_what_is_no_bundle_is_an_error(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == ["bundles.absent"]
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "folder") == ["bundles.not-a-bundle"]
    (tmp_path / "file").write_text("x")
    assert refused(tmp_path / "file") == ["bundles.not-a-bundle"]
