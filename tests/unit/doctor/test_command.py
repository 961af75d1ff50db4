"""The command itself: exit codes, the JSON contract, how it looks, in both languages."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

import finetui.doctor
from finetui.cli.common import Output
from finetui.cli.doctor_view import show
from finetui.cli.main import run
from finetui.core.messages import set_language, table
from finetui.doctor.examine import examine
from finetui.doctor.model import look_for
from finetui.doctor.situation import Situation
from tests.unit.doctor.situations import findings, only, situation
from tests.unit.hardware.nvml import A100, GIB, RTX3090

pytestmark = pytest.mark.unit

LEVELS = {"missing", "warning", "note", "ok"}
MACHINE = {
    "cpu", "memory", "gpus", "driver", "cuda", "disks", "larger_disks", "open_files", "container", "wsl", "python",
    "logins", "hub",
}  # fmt: skip


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is allowed; no test here asks for it."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(["doctor", *arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = doctor(capsys, "--for", "fetch", "--json", "--lang", "zh")
    told = json.loads(out)
    assert status == 0
    assert set(told) == {"ok", "for", "findings", "machine"}
    assert (told["ok"], told["for"]) == (True, ["fetch"])
    assert set(told["machine"]) == MACHINE
    assert told["machine"]["python"] is None
    assert set(told["machine"]["disks"]) == {"FINETUI_HOME", "HF_HOME", "TMPDIR"}
    for finding in told["findings"]:
        assert set(finding) == {"code", "level", "text", "command"}
        assert finding["level"] in LEVELS
        assert finding["text"].isascii()
        assert finding["command"] is None or isinstance(finding["command"], str)
    levels = [finding["level"] for finding in told["findings"]]
    assert levels == sorted(levels, key=["missing", "warning", "note", "ok"].index)


def test_what_is_missing_ends_with_5_and_names_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    status, out, _ = doctor(capsys, "--for", "slurm", "--for", "fetch", "--json")
    told = json.loads(out)
    assert (status, told["ok"], told["for"]) == (5, False, ["slurm", "fetch"])
    [missing] = [finding for finding in told["findings"] if finding["level"] == "missing"]
    assert missing["code"] == "doctor.programs-absent"
    assert "sbatch, srun, scontrol" in missing["text"]


def test_slurm_is_found_by_its_programs() -> None:
    there = situation("slurm", programs=("sbatch", "srun", "scontrol"))
    assert only(there, "programs-ok").level == "ok"
    half = situation("slurm", programs=("sbatch", "apt-get"), distribution="debian")
    finding = only(half, "programs-absent")
    assert (finding.level, "srun, scontrol" in finding.problem.message()) == ("missing", True)
    assert finding.problem.next() == "sudo apt-get update && sudo apt-get install -y slurm-client"


def test_an_unknown_purpose_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = doctor(capsys, "--for", "qlorra")
    assert status == 2
    assert "finetui doctor --for qlora" in err


def test_an_unknown_recipe_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = doctor(capsys, "--recipe", "qlora-3091", "--json")
    assert status == 3
    assert json.loads(out)["errors"][0]["code"] == "recipes.not-found-near"


@pytest.mark.parametrize(
    ("names", "model", "level", "command"),
    [
        ((), "Qwen/Qwen2.5-7B", "missing", "finetui fetch Qwen/Qwen2.5-7B"),
        (("fetch",), "Qwen/Qwen2.5-7B", "note", "finetui fetch Qwen/Qwen2.5-7B"),
        ((), "./no folder;rm -rf /", "missing", "finetui fetch './no folder;rm -rf /'"),
    ],
)
def test_a_model_that_is_not_here_is_fetched(names: tuple[str, ...], model: str, level: str, command: str) -> None:
    finding = only(situation(*names, model=look_for(model)), "model-absent")
    assert (finding.level, finding.problem.next()) == (level, command)


def test_a_model_is_looked_at_without_its_weights(tiny_model: Path, tmp_path: Path) -> None:
    assert only(situation(model=look_for(str(tiny_model))), "model-ok").level == "ok"
    assert only(situation(model=look_for("demo")), "model-demo").level == "note"
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    bare = situation(model=look_for(str(tmp_path)))
    assert only(bare, "model-no-weights").level == "missing"
    assert only(bare, "model-no-tokenizer").level == "warning"
    (tmp_path / "config.json").write_text("{")
    broken = examine(situation(model=look_for(str(tmp_path))))
    assert not broken.ok


def busy() -> Situation:
    """A machine of which there is a lot to say."""
    held = replace(A100, free=9 * GIB, compute=((2**22 + 7, 70 * GIB),))
    return situation(
        "qlora",
        cards=[held, RTX3090],
        cuda=12020,
        host={"is_container": True, "shm_bytes": 64 << 20, "ram_limit_bytes": 24 * GIB},
        is_writable=False,
        resolves=False,
        clock_behind_s=9e7,
        programs=(),
        environment={"TERM": "dumb", "SSH_CONNECTION": "1 2 3 4"},
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_it_is_read_at_80_columns(
    lang: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    set_language(lang)
    report = examine(busy())
    commands = {finding.problem.next() for finding in report.findings} - {None}
    show(Output(plain=True), report)
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        assert cell_len(line) <= 80 or line.strip() in commands, line
        assert line == line.rstrip()
    assert {line.strip() for line in lines} >= {command for command in commands if command}
    missing = sum(finding.level == "missing" for finding in report.findings)
    assert str(missing) in lines[-1]


def test_signs_are_ascii_where_the_terminal_shows_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(Output(plain=True), examine(situation(environment={"LANG": "C"}, encoding="ascii")))
    assert capsys.readouterr().out.isascii()


def test_over_ssh_without_tmux_its_installation_is_named() -> None:
    ssh = {"SSH_CONNECTION": "1 2 3 4"}
    finding = only(situation(environment=ssh, programs=("dnf",), distribution="fedora"), "no-multiplexer")
    assert (finding.level, finding.problem.next()) == ("note", "sudo dnf install -y tmux")
    assert "no-multiplexer" not in findings(situation(environment=ssh))
    assert "no-multiplexer" not in findings(situation(environment={**ssh, "TMUX": "x"}, programs=()))


def test_a_machine_that_does_not_know_its_own_name_cannot_train() -> None:
    finding = only(situation(resolves=False), "name-unresolved")
    assert finding.level == "missing"
    assert finding.problem.next() == 'echo "127.0.0.1 $(uname -n)" | sudo tee -a /etc/hosts'
    assert only(situation("fetch", resolves=False), "name-unresolved").level == "note"


def test_no_message_of_the_doctor_is_left_over() -> None:
    folder = Path(finetui.doctor.__file__).parent
    sources = [*folder.rglob("*.py"), folder.parent / "cli/doctor.py", folder.parent / "cli/doctor_view.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    words = set(re.findall(r"[\w-]+", text))
    made = {"label", "line", "gpu"}  # f"label-{name}" and the like
    for code in table("doctor"):
        assert code in words or code.partition("-")[0] in made, code
