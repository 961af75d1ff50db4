"""Which run a name means, and whether a run still lives."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.core.files import read_json, write_json
from finetui.runs.folder import RunFolder, RunState, create, find_run, list_runs
from finetui.runs.processes import Identity, start_time

pytestmark = pytest.mark.unit


def make_run(name: str, home, **changes) -> RunFolder:
    run = RunFolder(home / "runs" / name)
    run.path.mkdir(parents=True)
    state = RunState(
        run=name,
        bundle="/bundle",
        bundle_id="0" * 64,
        bundle_name="tiny",
        model="/model",
        python="python3",
        world_size=1,
        steps_total=10,
        started=float(name[9:15]),
    )
    run.write(replace(state, **changes))
    return run


def test_a_run_is_found_by_name_unique_prefix_path_and_last(home, monkeypatch):
    first, second = (make_run(f"20260101-00000{n}-tiny", home) for n in (1, 2))

    assert find_run(first.name) == first
    assert find_run("20260101-000002") == second
    assert find_run("last") == second
    assert find_run(str(first.path)) == first
    monkeypatch.chdir(first.path.parent)
    assert find_run(f"./{first.name}").path == first.path
    monkeypatch.chdir(first.path)
    assert find_run(".").path == first.path


def test_an_exact_name_is_meant_even_where_it_is_a_prefix_of_another(home):
    first = make_run("20260101-000001-tiny", home)
    make_run("20260101-000001-tiny-2", home)

    assert find_run("20260101-000001-tiny") == first


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        ("2026", "runs.ambiguous", "20260101-000001-tiny, 20260101-000002-tiny"),
        ("nothing", "runs.no-such-run", "nothing"),
        ("", "runs.no-such-run", ""),
        ("/no/such/folder", "runs.not-a-run", "/no/such/folder"),
    ],
)
def test_what_means_no_run_is_an_error_that_helps(home, reference, code, words):
    for n in (1, 2):
        make_run(f"20260101-00000{n}-tiny", home)

    with pytest.raises(FinetuiError) as error:
        find_run(reference)

    problem = error.value.problems[0]
    assert (problem.code, error.value.exit_code) == (code, 3)
    assert words in problem.message("en")
    assert problem.next("en") == "finetui runs"


def test_without_any_run_the_way_to_one_is_named(home):
    with pytest.raises(FinetuiError) as error:
        find_run("last")

    assert error.value.problems[0].next("en") == "finetui run BUNDLE"


def test_one_broken_state_hides_no_other_run(home):
    good = make_run("20260101-000002-tiny", home)
    broken = make_run("20260101-000001-tiny", home)
    (broken.path / "state.json").write_text('{"run": ')

    assert list_runs() == [broken, good]
    assert find_run("last") == good
    with pytest.raises(FinetuiError) as error:
        find_run(broken.name).read()
    assert error.value.problems[0].code == "runs.bad-state"


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "weird"},
        {"status": 5},
        {"started": "noon"},
        {"pid": True},
        {"bundle": [1]},
        {"detail": {}},
        {"changes": "{bad"},
        {"changes": "[1]"},
    ],
)
def test_a_state_of_other_types_is_told_and_hides_no_other_run(home, wrong):
    good = make_run("20260101-000002-tiny", home)
    broken = make_run("20260101-000003-tiny", home)
    write_json(broken.path / "state.json", {**read_json(broken.path / "state.json"), **wrong})

    assert find_run("last") == good
    with pytest.raises(FinetuiError) as error:
        broken.read()
    assert error.value.problems[0].code == "runs.bad-state"


@pytest.mark.parametrize(
    ("content", "words"), [("[1, 2]", "no JSON object"), ('{"run": "x"}', "it lacks bundle, bundle_id"), ("", "char 0")]
)
def test_a_state_that_is_none_is_told_in_words(home, content, words):
    broken = make_run("20260101-000003-tiny", home)
    (broken.path / "state.json").write_text(content)

    with pytest.raises(FinetuiError) as error:
        broken.read()
    assert words in error.value.problems[0].message("en")
    assert "__init__" not in error.value.problems[0].message("en")


def test_files_that_cannot_be_read_hide_no_other_run(home, capsys):
    make_run("20260101-000001-tiny", home)
    broken = make_run("20260101-000002-tiny", home)
    broken.events.mkdir()

    assert run(["runs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["status"] for row in rows] == ["unreadable", "running"]


def test_links_that_lead_nowhere_are_no_runs(home):
    make_run("20260101-000001-tiny", home)
    (home / "runs" / "loop").symlink_to("loop")
    with pytest.raises(FinetuiError) as error:
        find_run(str(home / "runs" / "loop"))
    assert error.value.problems[0].code == "runs.not-a-run"


def test_a_name_is_made_safe_for_files(home):
    run = create("../../a b\n")

    assert run.path.parent == home / "runs"
    assert run.name[16:] == "a-b"


def test_a_run_lives_as_long_as_its_supervisor(home):
    me = Identity.of(os.getpid())
    run = make_run("20260101-000001-tiny", home, status="running")

    def status_with(**changes) -> str:
        run.write(replace(run.read().held_by(me), **changes))
        return run.status()

    assert status_with() == "running"
    assert status_with(pid_start=me.pid_start + 1) == "interrupted"
    assert status_with(boot_id="another boot") == "interrupted"
    assert status_with(pid=2**22 + 1) == "interrupted"
    assert status_with(status="finished", pid_start=0) == "finished"


def test_a_run_on_another_machine_is_judged_by_its_heartbeat(home):
    run = make_run("20260101-000001-tiny", home, status="running", host="another", pid=1)
    run.supervisor_events.touch()

    assert run.status() == "running"
    old = time.time() - 120
    os.utime(run.supervisor_events, (old, old))
    assert run.status() == "interrupted"


def test_a_process_that_has_ended_but_was_not_waited_for_is_dead():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert start_time(pid) is None
    os.waitpid(pid, 0)
    assert start_time(os.getpid()) is not None


def test_last_passes_over_replays_unless_there_is_nothing_else(home):
    replay = make_run("20260101-000009-tiny", home, kind="replay")
    assert find_run("last") == replay
    original = make_run("20260101-000001-tiny", home)
    assert find_run("last") == original


def test_last_is_the_run_that_was_started_or_resumed_last(home):
    first = make_run("20260101-000001-tiny", home, resumed=3.0)
    make_run("20260101-000002-tiny", home)
    make_run("20260101-000004-tiny", home, kind="replay")

    assert find_run("last") == first
    with pytest.raises(FinetuiError, match="no run nowhere"):
        find_run("nowhere")


def test_a_run_that_is_removed_while_it_is_looked_at_is_told_so_and_hides_no_other(home, monkeypatch):
    gone, other = make_run("20260101-000001-tiny", home), make_run("20260101-000002-tiny", home)
    (gone.path / "state.json").unlink()
    monkeypatch.setattr(RunFolder, "exists", lambda _: True)

    assert list_runs() == [gone, other]
    with pytest.raises(FinetuiError, match="20260101-000001-tiny is no longer there") as error:
        gone.read()
    assert error.value.exit_code == 3
