"""`finetui fetch` as people and scripts meet it: its words, its JSON, its progress, an end in the middle."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.common import Output
from finetui.cli.fetch_progress import FetchProgress
from finetui.cli.main import run
from finetui.models.fetch.http import Pause
from tests.unit.models.fetching import ID, WEIGHTS, get
from tests.unit.models.loopback import COMMIT, Loopback, files_of

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def online(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The one object on stdout."""
    run([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_the_contract(hub: Loopback, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = as_json(capsys, "fetch", ID)
    files = {name: len(content) for name, content in files_of(home / "models" / ID).items() if name != ".finetui.json"}
    assert told.pop("seconds") >= 0
    assert {file["path"]: file["bytes"] for file in told.pop("files")} == files
    assert told.pop("notes")[0]["code"] == "fetch.note-code"
    assert told == {
        "path": str(home / "models" / ID),
        "kind": "model",
        "source": ID,
        "site": "hub",
        "revision": COMMIT,
        "bytes": sum(files.values()),
        "fetched_bytes": sum(files.values()),
        "resumed": False,
        "already": False,
        "left_out": ["model.fp16.safetensors", "onnx/model.onnx", "pytorch_model.bin", "tiny.Q4.gguf"],
    }
    assert as_json(capsys, "fetch", ID)["already"] is True


def test_the_contract_of_check(hub: Loopback, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = get().path
    told = as_json(capsys, "fetch", ID, "--check")
    assert told["ok"] is True
    assert told["path"] == str(path)
    assert run(["fetch", ID, "--check"]) == 0
    (path / "config.json").write_text("{}")
    (path / "README.md").unlink()
    capsys.readouterr()
    told = as_json(capsys, "fetch", str(path), "--check")
    assert (told["ok"], told["absent"], told["mismatches"][0]["path"]) == (False, ["README.md"], "config.json")
    assert run(["fetch", ID, "--check"]) == 4
    assert f"finetui fetch {ID}" in capsys.readouterr().err


def test_errors_are_json_too(hub: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    told = as_json(capsys, "fetch", "owner/nothing")
    (error,) = told["errors"]
    assert set(error) == {"code", "message", "file", "line", "expected", "next"}
    assert error["next"] == "hf auth login"


def test_words_for_people(hub: Loopback, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", ID, "--plain"]) == 0
    said = capsys.readouterr()
    assert f"{ID} is in {home}/models/{ID}: " in said.out
    assert COMMIT in said.out
    assert "\x1b" not in said.err
    assert "left out" in said.err
    assert "modeling_tiny.py" in said.err
    assert f"finetui plan --model {ID}" in said.err
    hub.models[ID]["README.md"] = b"# version 2"
    assert run(["fetch", f"{ID}@v2", "--lang", "zh"]) == 0
    said = capsys.readouterr()
    assert "已存放在" in said.out
    assert f"finetui plan --model {home}/models/{ID}@v2" in said.err


def test_names_from_the_site_are_shown_harmless(hub: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    hub.models[ID]["x\x1b]52;c;ZXZpbA==\x07\nerror: evil.gguf"] = b"GGUF"
    assert run(["fetch", ID]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert "\nerror: evil" not in said


def test_a_dataset_is_found_by_its_id(hub: Loopback, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n' * 30
    hub.datasets["owner/talks"] = {"data/train.jsonl": rows, "README.md": b"# talks", "talks.py": b"import os"}
    told = as_json(capsys, "fetch", "owner/talks")
    assert (told["kind"], told["path"]) == ("dataset", str(home / "datasets" / "owner" / "talks"))
    hub.asked.clear()
    for words in ("owner/talks", "talks"):
        assert as_json(capsys, "inspect", words)["rows"]["usable"] == 30
    hub.models["owner/talks"] = hub.models[ID]
    assert as_json(capsys, "fetch", "--dataset", "owner/talks")["already"] is True
    assert as_json(capsys, "fetch", "owner/talks")["kind"] == "model"


def test_a_model_is_planned_and_locked_by_its_id_without_a_network(
    hub: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    get()
    hub.asked.clear()
    told = as_json(capsys, "plan", "--model", ID, "--recipe", "cpu-demo")
    assert "predicted_peak_bytes" in told
    assert hub.asked == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO, **how: bool) -> str:
    """What a fetch of 100 MB at 10 MB/s, once paused, shows."""
    monkeypatch.setattr(sys, "stderr", terminal)
    now = iter(range(100))
    with FetchProgress(Output(**how), clock=lambda: float(next(now))) as progress:
        for done in (0, 10, 20):
            progress({"stage": "fetch", "done": done * 10**6, "total": 10**8, "pause": None})
        for done in (20, 20):
            pause = Pause("hub.invalid", "HTTP 429", 30.0)
            progress({"stage": "fetch", "done": done * 10**6, "total": 10**8, "pause": pause})
        progress({"stage": "fetch", "done": 10**8, "total": 10**8, "pause": None})
    return terminal.getvalue()


def test_progress_on_a_terminal_is_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    said = drawn(monkeypatch, Terminal())
    assert "20.0 MB of 100.0 MB (20 %), 10.0 MB/s, 0:08 left" in said
    assert "20.0 MB; hub.invalid: HTTP 429, trying again after 30 s" in said
    assert "\n" not in said
    assert said.endswith("\r\x1b[K")
    assert all(len(line) < 80 for line in said.split("\r\x1b[K"))


@pytest.mark.parametrize("terminal", [Terminal, io.StringIO])
def test_progress_in_plain_lines(monkeypatch: pytest.MonkeyPatch, terminal: type[io.StringIO]) -> None:
    lines = drawn(monkeypatch, terminal(), plain=True).splitlines()
    assert lines == [
        "0 B of 100.0 MB (0 %)",
        "10.0 MB of 100.0 MB (10 %), 10.0 MB/s, 0:09 left",
        "20.0 MB of 100.0 MB (20 %), 10.0 MB/s, 0:08 left",
        "20.0 MB; hub.invalid: HTTP 429, trying again after 30 s",
        "100.0 MB of 100.0 MB (100 %), 20.0 MB/s, 0:00 left",
    ]


def test_no_progress_with_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, Terminal(), json=True) == ""


def size_of_largest_part(home: Path) -> int:
    largest = 0
    for path in home.rglob(".parts/*"):
        with contextlib.suppress(FileNotFoundError):  # whole since it was listed
            largest = max(largest, path.stat().st_size)
    return largest


@pytest.mark.parametrize(("ended_by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_what_ends_in_the_middle_is_gone_on_with(
    hub: Loopback, home: Path, tmp_path: Path, ended_by: signal.Signals, code: int
) -> None:
    hub.held = threading.Event()
    words = [sys.executable, "-m", "finetui", "fetch", ID, "--plain"]
    process = subprocess.Popen(words, env=os.environ, stderr=subprocess.PIPE, text=True)
    half = len(hub.models[ID][WEIGHTS]) // 2
    while size_of_largest_part(home) < half:
        assert process.poll() is None
    process.send_signal(ended_by)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(60) == code
    assert "Traceback" not in said
    hub.held.set()
    hub.asked.clear()
    assert not (home / "models" / ID).exists()
    fetched = get()
    assert fetched.resumed_bytes >= half
    assert hub.requests_of(f"resolve/{COMMIT}/{WEIGHTS}")[0].headers["Range"].startswith("bytes=")
