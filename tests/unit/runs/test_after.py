"""What follows a run's end: verbs of finetui, and a command of the person's own."""

from __future__ import annotations

import json
import signal

import pytest

from finetui.core.errors import USAGE, FinetuiError
from finetui.runs import processes
from finetui.runs.following import follow
from finetui.runs.launch import prepare, start
from finetui.runs.outcome import problems_after, result
from finetui.runs.stopping import stop
from tests.unit.runs.conftest import GATED, WHOLE
from tests.unit.runs.support import finetui, has_step, wait_until

pytestmark = pytest.mark.unit

TELL = 'echo "$RUN $STATUS $RUN_DIR" >> "$RUN_DIR/told"; echo spoken; exit 9'


def wait_for_the_end(run) -> None:
    list(follow(run))
    wait_until(lambda: not run.read().identity.is_alive(), "the end of its supervisor")


@pytest.mark.parametrize(
    ("body", "status"),
    [(WHOLE, "finished"), ("started()\nsys.exit(3)\n", "failed"), ("started(world_size=2)", "failed")],
)
def test_on_finish_is_told_once_how_the_run_ended_and_changes_nothing(make_bundle, body, status):
    run = start(make_bundle(body).path, on_finish=TELL)
    wait_for_the_end(run)

    assert (run.path / "told").read_text() == f"{run.name} {status} {run.path}\n"
    assert run.then_log.read_text() == "spoken\n"
    assert (result(run)["status"], result(run)["on_finish_exit"]) == (status, 9)


def test_on_finish_is_called_for_a_stopped_run_and_where_the_supervisor_could_not_go_on(make_bundle, monkeypatch):
    made = make_bundle(GATED)
    run = start(made.path, on_finish=TELL)
    wait_until(lambda: has_step(run, 1), "the first step")
    assert stop(run).left == 0
    assert (run.path / "told").read_text().split()[1] == "stopped"

    monkeypatch.setenv("PATH", "/nowhere")
    broken = start(made.path, on_finish=TELL)
    wait_for_the_end(broken)
    assert (broken.path / "told").read_text().split()[1] == "failed"


def test_on_finish_survives_the_supervisor(make_bundle):
    run = start(make_bundle(GATED).path, on_finish=TELL)
    wait_until(lambda: has_step(run, 1), "the first step")

    run.read().identity.send(signal.SIGKILL)
    (run.path / "go").touch()
    wait_for_the_end(run)

    assert (run.path / "told").read_text().split()[1] == "finished"


def test_merge_follows_a_finished_run_and_its_failure_is_not_the_runs(make_bundle, home):
    done = finetui("run", make_bundle().path, "--then", "merge", "--on-finish", "exit 0", "--json")

    outcome = json.loads(done.stdout)
    assert (done.returncode, outcome["status"]) == (0, "finished")
    assert [call["verb"] for call in outcome["then"]] == ["merge"]
    assert outcome["then"][0]["exit_code"] != 0, "there is no real adapter to merge"
    assert "finetui merge failed with exit code 4; the run itself is finished: data/train.parquet" in done.stderr
    assert not list((home / "cache").glob("crash-*"))


def test_nothing_follows_a_run_that_failed(make_bundle):
    run = start(make_bundle("started()\nsys.exit(3)\n").path, then="merge")
    wait_for_the_end(run)

    assert (result(run)["then"], problems_after(run), run.then_log.exists()) == ([], [], False)


def test_stop_ends_what_follows_too(make_bundle):
    run = start(make_bundle().path, on_finish="sleep 1000 & sleep 1000")
    list(follow(run))
    wait_until(lambda: len(processes.of_run(run.path)) >= 3, "the command of --on-finish")

    done = stop(run, now=True)

    assert (done.was_running, done.left, processes.of_run(run.path)) == (True, 0, [])
    assert result(run)["status"] == "finished"


@pytest.mark.parametrize(
    ("then", "lock", "code"),
    [
        ("merge,fly", {}, "runs.then-unknown"),
        ("merge", {"method": "full"}, "runs.then-no-adapter"),
    ],
)
def test_what_cannot_follow_is_said_before_the_start(make_bundle, then, lock, code):
    with pytest.raises(FinetuiError) as error:
        prepare(make_bundle(**lock).path, then=then)

    assert (error.value.exit_code, [said.code for said in error.value.problems]) == (USAGE, [code])


def test_launch_options_stay_out_of_the_bundle(make_bundle):
    made = make_bundle()
    before = {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
    run = start(made.path, on_finish="exit 0")
    wait_for_the_end(run)

    assert {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()} == before
    assert run.read().on_finish == "exit 0"
