"""Jobs: the only way to a worker, under this interpreter or another."""

import sys
import venv
from pathlib import Path

import pytest

from finetui.core import jobs
from finetui.core.errors import FinetuiError

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with nothing installed."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


def test_a_worker_answers_under_this_interpreter() -> None:
    report = jobs.run("environment", {})
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["packages"]["transformers"]


def test_a_worker_runs_under_a_bare_interpreter_and_says_what_it_lacks(bare_python: str) -> None:
    with pytest.raises(FinetuiError) as error:
        jobs.run("environment", {}, python=bare_python)
    assert error.value.exit_code == 5
    assert "torch" in str(error.value)
    with pytest.raises(FinetuiError) as error:
        jobs.run("merge", {}, python=bare_python)
    assert error.value.exit_code == 5
    assert [problem.code for problem in error.value.problems] == ["jobs.missing-module"]
    assert error.value.problems[0].next("en") == "pip install 'finetui[train]'"


def test_a_foreign_interpreter_sees_this_package_and_nothing_else_of_this_installation(bare_python: str) -> None:
    shelf = Path(jobs.worker_environment(bare_python)["PYTHONPATH"])
    assert [path.name for path in shelf.iterdir()] == ["finetui"]
    assert "PYTHONPATH" not in jobs.worker_environment(sys.executable) or "finetui" not in str(shelf.parent)


def test_a_missing_interpreter_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as error:
        jobs.run("environment", {}, python=str(tmp_path / "python"))
    assert [problem.code for problem in error.value.problems] == ["jobs.no-interpreter"]
    assert error.value.exit_code == 5


def test_an_interpreter_may_be_a_name_on_the_path_and_never_a_folder(
    bare_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(bare_python).parent))
    assert jobs.interpreter("python") == bare_python
    with pytest.raises(FinetuiError) as error:
        jobs.interpreter(str(tmp_path))
    assert [problem.code for problem in error.value.problems] == ["jobs.no-interpreter"]


@pytest.mark.parametrize("says", ["echo not json", "echo 5", "printf '\\377\\n'", "yes"])
def test_a_program_that_is_no_python_is_told(says: str, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    with pytest.raises(FinetuiError) as error:
        jobs.run("environment", {}, python=str(program))
    assert [problem.code for problem in error.value.problems] == ["jobs.no-worker"]
    assert error.value.exit_code == 5


def test_the_site_file_names_the_interpreter(home: Path, bare_python: str) -> None:
    home.mkdir()
    (home / "site.toml").write_text(f'[site]\npython = "{bare_python}"\n')
    assert jobs.interpreter() == bare_python
    for content in (b"[site\n", b"\xff\xfe", b"site = 5\n", b"[site]\npython = 5\n", b"a = " + b"[" * 50_000):
        (home / "site.toml").write_bytes(content)
        with pytest.raises(FinetuiError) as error:
            jobs.interpreter()
        assert [problem.code for problem in error.value.problems] == ["jobs.bad-site"]


def test_a_worker_that_dies_leaves_its_last_words() -> None:
    with jobs.Session("environment") as session:
        session.send("not an object")  # type: ignore[arg-type]
        with pytest.raises(FinetuiError) as error:
            list(session.receive())
    assert error.value.exit_code == 1
    assert "Error" in str(error.value)
