"""The commands as a person has them: in a terminal that may go away at any moment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.app.home_facts import last_runs
from finetui.runs.folder import find_run, list_runs
from finetui.runs.following import follow
from finetui.runs.launch import start
from finetui.runs.outcome import result, standing
from tests.unit.runs.conftest import GATED
from tests.unit.runs.support import Terminal, finetui

pytestmark = pytest.mark.unit


def test_run_gives_one_json_object_and_speaks_to_people_on_stderr(make_bundle):
    done = finetui("run", make_bundle().path, "--json")

    outcome = json.loads(done.stdout)
    assert done.returncode == 0
    assert {"run", "status", "steps", "final_loss", "output", "adapter_sha256"} <= outcome.keys()
    assert {"world_size", "tokens_per_second", "resumed_from"} <= outcome.keys()
    assert outcome["status"] == "finished"
    assert "step 3 of 3 · loss 0.6667 · lr 0.001 · grad 1 · 90 tokens/s · 0:00 left" in done.stderr
    assert f"finetui merge {outcome['run']}" in done.stderr


def test_a_failed_run_ends_with_1_and_its_cause(make_bundle):
    body = "started()\nstep(1)\nevent('failed', 1, cause='nan', detail='the loss of step 2 is nan')\nsys.exit(1)\n"
    done = finetui("run", make_bundle(body).path, "--json")

    outcome = json.loads(done.stdout)
    assert (done.returncode, outcome["status"], outcome["cause"]) == (1, "failed", "nan")
    assert "error: run" in done.stderr
    assert "no longer a number (the loss of step 2 is nan)" in done.stderr
    assert "Traceback" not in done.stderr


def test_detach_returns_once_training_has_begun(make_bundle):
    done = finetui("run", make_bundle(GATED).path, "--detach", "--json")

    outcome = json.loads(done.stdout)
    assert (done.returncode, outcome["status"], outcome["world_size"]) == (0, "running", 1)
    assert finetui("runs", "--json").returncode == 0
    stopped = finetui("stop", "last", "--json")
    assert (stopped.returncode, json.loads(stopped.stdout)["status"]) == (0, "stopped")
    watched = finetui("watch", "last", "--plain")
    assert (watched.returncode, "was stopped at step 1 of 3" in watched.stderr) == (1, True)


def test_detach_says_at_once_what_is_wrong_with_the_trainer(make_bundle):
    done = finetui("run", make_bundle("raise ImportError('torch is not here')\n").path, "--detach")

    assert done.returncode == 1
    assert "ImportError: torch is not here" in done.stderr


def test_a_closed_terminal_does_not_end_the_run_and_watch_follows_it_to_its_end(make_bundle):
    made = make_bundle(GATED)
    terminal = Terminal("run", made.path)
    terminal.read_until("1 of 3")
    run = list_runs()[-1]
    watcher = subprocess.Popen(
        [sys.executable, "-m", "finetui", "watch", run.name, "--plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    terminal.close()
    os.waitpid(terminal.pid, 0)
    (run.path / "go").touch()
    said, shown = watcher.communicate(timeout=60)

    assert watcher.returncode == 0
    assert [line.split(" ·")[0] for line in shown.splitlines() if line.startswith("step")] == [
        "step 1 of 3",
        "step 2 of 3",
        "step 3 of 3",
    ]
    assert "\x1b" not in shown + said
    assert said.startswith(f"run {run.name} finished: 3 steps, loss 0.6667")


def test_a_killed_starter_does_not_end_the_run(make_bundle):
    terminal = Terminal("run", make_bundle(GATED).path)
    terminal.read_until("1 of 3")
    os.kill(terminal.pid, signal.SIGKILL)
    os.waitpid(terminal.pid, 0)
    terminal.close()

    (find_run("last").path / "go").touch()
    assert finetui("watch", "last").returncode == 0
    assert result(find_run("last"))["status"] == "finished"


def test_ctrl_c_stops_following_only_and_says_so(make_bundle):
    terminal = Terminal("run", make_bundle(GATED).path)
    terminal.read_until("1 of 3")
    terminal.type("\x03")

    assert terminal.exit_code() == 130
    run = find_run("last")
    assert f"the run goes on: `finetui watch {run.name}`" in terminal.text.replace("\r\n", "")
    assert run.status() == "running"
    assert finetui("stop", run.name).returncode == 0


def test_replay_ends_with_0_where_all_is_equal_and_4_where_not(make_bundle):
    body = "started()\nfor n in range(1, limit + 1): step(n, loss=float((pathlib.Path(os.environ['HOME']) / 'loss')"
    body += ".read_text()))\nhardware = dict(device='cpu', threads=1, torch='0')\nfinish()\n"
    made = make_bundle(body)
    loss = Path(os.environ["HOME"]) / "loss"
    loss.write_text("2.5")

    assert finetui("replay", made.path, "--json").returncode == 3
    assert finetui("run", made.path).returncode == 0
    same = finetui("replay", made.path, "--json")
    assert (same.returncode, json.loads(same.stdout)["kind"]) == (0, "exact")
    loss.write_text("2.6")
    other = finetui("replay", made.path, "--json")

    parted = json.loads(other.stdout)
    assert (other.returncode, parted["reproduced"]) == (4, False)
    assert parted["first_divergence"]["expected"] == 2.5
    assert parted["first_divergence"]["actual"] == 2.6
    (made.path / "recipe.toml").write_text("changed")
    changed = finetui("replay", made.path, "--json")
    assert (changed.returncode, json.loads(changed.stdout)["kind"]) == (4, "changed")


def test_runs_lists_the_newest_first_and_survives_a_broken_one(make_bundle, home):
    made = make_bundle()
    names = [json.loads(finetui("run", made.path, "--json").stdout)["run"] for _ in range(2)]
    (home / "runs" / names[0] / "state.json").write_text("{")

    listed = json.loads(finetui("runs", "--json").stdout)["runs"]
    table = finetui("runs", "--plain").stdout

    assert [(row["run"], row["status"]) for row in listed] == [(names[1], "finished"), (names[0], "unreadable")]
    assert "3/3" in table
    assert names[0] in table


@pytest.mark.parametrize("gone", ["done.json", "output/adapter_model.safetensors", "output"])
def test_a_result_that_is_gone_is_told_by_the_list_as_by_whoever_looks_closer(make_bundle, gone):
    run = start(make_bundle().path)
    list(follow(run))
    (run.path / gone).rename(run.path / "elsewhere")

    [row] = json.loads(finetui("runs", "--json").stdout)["runs"]
    watched = json.loads(finetui("watch", run.name, "--json").stdout)
    assert (row["status"], row["cause"]) == (watched["status"], watched["cause"])
    assert (row["status"], last_runs()[0].status) == ("failed", "failed")
    assert json.loads(finetui("runs", "--json", "--status", "finished").stdout)["runs"] == []


def test_a_result_that_nobody_has_touched_is_not_read_again_by_the_list(make_bundle, monkeypatch):
    run = start(make_bundle().path)
    list(follow(run))
    run.write(replace(run.read(), ended=time.time() + 60))
    monkeypatch.setattr("finetui.runs.outcome.digests", lambda _: pytest.fail("read again"))

    assert standing(run).status == "finished"


def test_logs_show_hostile_text_harmlessly(make_bundle):
    finetui("run", make_bundle("print('\\x1b]52;c;aGk=\\x07<b>[red]hi')\nstarted()\n").path)

    shown = finetui("logs", "last")

    assert shown.stdout == "<b>[red]hi\n"


def test_events_of_another_schema_are_not_passed_over_in_silence(make_bundle):
    run = start(make_bundle().path)
    list(follow(run))
    run.events.write_text(run.events.read_text().replace('"v": 1', '"v": 2'))

    watched = finetui("watch", run.name)
    assert "schema version 2" in watched.stderr
    assert watched.returncode == 0


def test_a_run_that_has_ended_is_charged_no_further(make_bundle):
    run = start(make_bundle().path)
    list(follow(run))
    later = {
        path: re.sub(r'(?<="time": )\d+', lambda said: str(int(said[0]) - 9000), path.read_text())
        for path in (run.events, run.supervisor_events)
    }
    for path, text in later.items():
        path.write_text(text)

    screen = Terminal("watch", run.name)
    assert screen.exit_code() == 0
    assert "saving" in screen.text
    assert "2:30:" not in screen.text
    assert "left " not in screen.text


def test_stopping_what_has_ended_asks_nobody(make_bundle):
    run = start(make_bundle().path)
    list(follow(run))

    stopped = finetui("stop", run.name)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert "is not running" in stopped.stdout


def test_no_runs_yet_is_no_error_and_says_how_to_start_one(home):
    done = finetui("runs")

    assert (done.returncode, done.stdout) == (0, "")
    assert "finetui run BUNDLE" in done.stderr
    assert json.loads(finetui("runs", "--json").stdout) == {"runs": []}


def test_what_is_no_run_is_an_error_without_traceback(home):
    done = finetui("watch", "nothing", "--json")

    assert done.returncode == 3
    assert json.loads(done.stdout)["errors"][0]["code"] == "runs.no-runs"
    assert "Traceback" not in done.stderr


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
