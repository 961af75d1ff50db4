"""The command line where its streams are closed, full, or nobody reads them to the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

FINETUI = f"{sys.executable} -m finetui"


def shell(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FINETUI_HOME": str(home)}
    return subprocess.run(
        ["bash", "-c", line.replace("finetui", FINETUI, 1)], capture_output=True, text=True, env=environment, cwd=home
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("finetui recipes | true; exit $PIPESTATUS", 0),
        ("finetui recipes --json | true; exit $PIPESTATUS", 0),
        ("finetui watch nothing 2>&1 | true; exit $PIPESTATUS", 3),
        ("finetui watch nothing --json | true; exit $PIPESTATUS", 3),
    ],
)
def test_a_reader_that_goes_early_changes_no_exit_code(line: str, code: int, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("recipes", 0), ("runs", 0), ("inspect d.jsonl", 0), ("watch nothing", 3)])
def test_a_closed_stream_changes_no_exit_code(words: str, code: int, closed: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    done = shell(f"finetui {words} {closed}", tmp_path)
    assert done.returncode == code
    assert "unforeseen" not in done.stderr
    assert not list(tmp_path.glob("cache/crash-*"))


@pytest.mark.parametrize("words", ["recipes", "recipes --json", "runs --json", "watch nothing --json"])
def test_a_full_disk_behind_stdout_is_said_without_a_traceback(words: str, tmp_path: Path) -> None:
    done = shell(f"finetui {words} > /dev/full", tmp_path)
    assert done.returncode == (3 if words.startswith("watch") else 5)
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr


@pytest.mark.parametrize("flags", ["", "--json", "--lang zh"])
def test_a_full_disk_behind_stdout_names_stdout(flags: str, tmp_path: Path) -> None:
    done = shell(f"finetui recipes {flags} >/dev/full", tmp_path)
    assert done.returncode == 5
    assert ("标准输出" if "zh" in flags else "standard output") in done.stderr
    assert "–" not in done.stderr


def test_json_still_comes_whole_where_stderr_is_closed(tmp_path: Path) -> None:
    assert json.loads(shell("finetui runs --json 2>&-", tmp_path).stdout) == {"runs": []}


def test_ctrl_c_while_the_program_is_being_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    done = shell("PYTHONPATH=. finetui runs", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
