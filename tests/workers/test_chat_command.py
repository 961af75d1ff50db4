"""`finetui chat` as a person or a pipe uses it, with models that say what they are told to."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parrot import make_parrot

pytestmark = pytest.mark.worker

HOSTILE = "\x1b]0;pwn\x07[b"


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says OK."""
    return make_parrot(tmp_path_factory.mktemp("models") / "parrot", "OK")


def chat(*arguments: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetui", "chat", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_prompts_are_answered_one_by_one_as_the_contract_has_it(parrot: Path) -> None:
    done = chat(str(parrot), "--prompt", "Hello", "--prompt", "你好", "--json")

    answers = json.loads(done.stdout)["answers"]
    assert [set(answer) for answer in answers] == [{"model", "text", "tokens", "stop_reason", "tokens_per_second"}] * 2
    for answer in answers:
        assert (answer["model"], answer["text"], answer["tokens"]) == ("parrot", "OK", 3)
        assert answer["stop_reason"] == "stop"


def test_an_answer_that_is_cut_says_so(parrot: Path) -> None:
    done = chat(str(parrot), "--prompt", "Hello", "--max-new-tokens", "1")

    assert done.stdout == "O\n"
    assert "cut after 1 tokens" in done.stderr


def test_a_hostile_answer_is_shown_harmlessly_and_kept_whole_in_json(tmp_path: Path) -> None:
    model = make_parrot(tmp_path / "hostile", HOSTILE)

    shown = chat(str(model), "--prompt", "Hello")
    line = chat(str(model), stdin="Hello\n")
    contract = chat(str(model), "--prompt", "Hello", "--json")

    assert "[b" in shown.stdout
    for written in (shown.stdout, line.stdout, contract.stdout):
        assert "\x1b" not in written
        assert "\x07" not in written
    assert json.loads(contract.stdout)["answers"][0]["text"] == HOSTILE


def test_lines_from_a_pipe_are_a_conversation_with_commands(parrot: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.jsonl"
    lines = [
        "/system Be brief.",
        "Hello",
        "Again",
        f"/save {saved}",
        "/compare",
        "/nonsense",
        "/help",
        "",
        "/quit",
        "No",
    ]

    done = chat(str(parrot), stdin="\n".join(lines) + "\n")

    assert done.stdout == "parrot: OK\nparrot: OK\n"
    assert json.loads(saved.read_text()) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "OK"},
            {"role": "user", "content": "Again"},
            {"role": "assistant", "content": "OK"},
        ]
    }
    for said in ("a new conversation", "no base to compare it with", "there is no /nonsense here", "/reset"):
        assert said in done.stderr


def test_bytes_that_are_no_text_are_replaced_and_answered(parrot: Path) -> None:
    command = [sys.executable, "-m", "finetui", "chat", str(parrot), "--json"]
    asked = subprocess.run([*command, "--system", b"\xfe", "--prompt", b"\xff\xfe"], capture_output=True, check=True)
    typed = subprocess.run(command, input=b"\xff\xfe\n", capture_output=True, check=True)
    for done in (asked, typed):
        assert [answer["text"] for answer in json.loads(done.stdout)["answers"]] == ["OK"]


def test_lines_under_json_end_in_one_object(parrot: Path) -> None:
    done = chat(str(parrot), "--json", stdin="Hello\nAgain\n")

    assert [answer["text"] for answer in json.loads(done.stdout)["answers"]] == ["OK", "OK"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--compare", "--prompt", "x"], 2, "no base to compare it with"),
        (["--temperature", "-1", "--top-p", "0", "--max-new-tokens", "0", "--prompt", "x"], 2, "--top-p is 0"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_loads(
    parrot: Path, arguments: list[str], code: int, said: str
) -> None:
    done = chat(str(parrot), *arguments, code=code)

    assert said in done.stderr
    assert done.stdout == ""
    assert "loading" not in done.stderr


def test_a_model_that_is_not_there_is_an_error_in_words() -> None:
    done = chat("nowhere/nothing", "--prompt", "x", code=3)

    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_the_answer_and_ctrl_d_ends(tiny_model: Path) -> None:
    """GIVEN a model that goes on and on, at a terminal, WHEN Ctrl+C comes, THEN the next line is asked for."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "finetui", "chat", str(tiny_model), "--max-new-tokens", "1000000"]
    environment = {**os.environ, "TERM": "dumb"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    seen = b""

    def wait_for(text: str) -> None:
        nonlocal seen
        while text.encode() not in seen:
            seen += os.read(ours, 4096)
        seen = seen.partition(text.encode())[2]

    try:
        wait_for("you: ")
        os.write(ours, b"Hello\n")
        wait_for("tiny: ")
        process.send_signal(signal.SIGINT)
        wait_for("[stopped]")
        wait_for("you: ")
        os.write(ours, b"\x04")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(ours)
