"""The app as a person uses it: home to a chat with what was trained, in a real tmux; and over a cut line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetui.models.demo import fetch_demo
from finetui.runs import processes
from finetui.runs.folder import list_runs
from finetui.runs.outcome import result
from tests.e2e.conftest import FACTS
from tests.e2e.loopback import SSHD, Login, Sshd, sshd
from tests.e2e.tmux import tmux
from tests.unit.runs.support import has_step, wait_until

pytestmark = pytest.mark.soak

ROOMY, LOW = (80, 24), (40, 12)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small real model, made once."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUI_HOME", str(root))
        yield fetch_demo()
    shutil.rmtree(root)


@pytest.fixture
def desk(demo: Path, home: Path, tmp_path: Path) -> Path:
    """A folder with a file of chats; the small real model is at home."""
    (home / "models").mkdir(parents=True)
    (home / "models" / "demo").symlink_to(demo)
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in FACTS.items()
    ]
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "chats.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def picture(name: str, shown: str) -> None:
    """Print a screen for whoever reads the run of the tests (`-s`)."""
    print(f"---- {name}\n{shown.rstrip()}")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux on this machine")
@pytest.mark.parametrize("term", ["xterm-256color", "screen", "linux"])
def test_from_home_to_a_chat_with_what_was_trained(desk: Path, home: Path, term: str) -> None:
    environment = {"TERM": term, "LANG": "C.UTF-8", "FINETUI_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with tmux(desk, [sys.executable, "-m", "finetui"], environment) as app:
        picture("home", app.until("No run yet", "n new"))
        app.keys("n")
        app.until("chats.jsonl", "1 Data")
        app.keys("Enter")
        picture("data", app.until("6 usable", "confidence"))
        app.keys("Enter")
        picture("model", app.until("✓ Data", "demo", "LlamaForCausalLM"))
        app.keys("Enter")
        picture("recipe", app.until("✓ Model", "cpu-demo", "steps"))
        app.keys("Enter")
        picture("review", app.until("✓ Recipe", "finetui lock", "--model demo"))
        app.keys("Enter")
        picture("launch", app.until("✓ Review", ".bundle"))
        app.keys("Enter")
        app.until("monitor")
        picture("monitor", app.until("finished"))
        app.resize(*LOW)
        picture("monitor, small", app.until("finished", "monitor", "Esc back"))
        app.resize(*ROOMY)
        app.until("c chat")
        app.keys("c")
        app.until("Enter send")
        app.words("Who are you?")
        app.keys("Enter")
        picture("chat", app.until("tokens/s"))
        app.keys("Escape")
        app.until("Leave the chat")
        app.keys("Down", "Enter")
        app.until("monitor")
        app.keys("F10")
        assert "left with 0" in app.until("left with")
    (run,) = list_runs()
    assert result(run)["status"] == "finished"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A loopback sshd."""
    with sshd(tmp_path / "sshd") as listening:
        yield listening


def cut(server: Sshd) -> None:
    """End every session, as when the other machine's sshd is restarted."""
    served = server.served()
    for pid in reversed(server.sessions()):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not [pid for pid in served if processes.start_time(pid) is not None], "the terminal's end")


@pytest.mark.skipif(not Path(SSHD).exists(), reason="there is no sshd on this machine")
def test_a_line_that_is_cut_costs_neither_the_draft_nor_the_run(desk: Path, server: Sshd) -> None:
    login = server.login()
    go(login, ("", "No run yet"), ("n", "1 Data"), (str(desk / "chats.jsonl"), " messages"), ("\r", "6 usable"))
    go(login, ("\r", "LlamaForCausalLM"))
    cut(server)
    login.end()

    login = server.login()
    go(login, ("", "No run yet"), ("n", "A draft is waiting"), ("\r", "LlamaForCausalLM"), ("\r", "✓ Model"))
    go(login, ("", "cpu-demo"), ("\r", "finetui lock"), ("\r", "✓ Review"), ("\r", "1 facts"))
    (run,) = list_runs()
    wait_until(lambda: has_step(run, 1), "the first step", 300)
    picture("before the cut", login.see("running", "step"))
    trainers = processes.trainers(run.path)
    cut(server)
    login.end()
    assert processes.trainers(run.path) == trainers != []

    login = server.login()
    go(login, ("", run.name[:20]), ("\r", "1 facts"))
    picture("attached again", login.see("step", "4 of 4"))
    picture("the end", login.see("finished", "the result is in"))
    login.type("\x1b[21~")
    assert login.end() == 0
    assert result(run)["status"] == "finished"


def go(login: Login, *way: tuple[str, str]) -> None:
    """Press keys, each followed by what is seen then."""
    for keys, words in way:
        login.type(keys)
        login.see(words)
