"""A run from start to end: what it leaves, how it is stopped, and what is called a failure."""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from finetui.bundles import trust
from finetui.core.errors import BAD_INPUT, MACHINE, MISMATCH, FinetuiError
from finetui.core.messages import entry
from finetui.hardware.gpu import Gpu
from finetui.hardware.probe import Machine
from finetui.runs import processes
from finetui.runs.folder import find_run, list_runs
from finetui.runs.following import follow
from finetui.runs.launch import launch, prepare, start
from finetui.runs.outcome import CAUSES, problem, result
from finetui.runs.stopping import stop
from tests.tiny import make_tiny_model
from tests.unit.runs.conftest import GATED, WHOLE
from tests.unit.runs.support import has_step, kill, read_state, wait_until

pytestmark = pytest.mark.unit


def test_a_finished_run_gives_the_contract_and_says_each_step_once(make_bundle):
    run = start(make_bundle().path)

    names = [event.name for event in follow(run) if event.name in ("started", "step", "finished", "ended")]
    outcome = result(run)

    assert names == ["started", "step", "step", "step", "finished", "ended"]
    assert outcome["status"] == "finished"
    assert (outcome["steps"], outcome["world_size"], outcome["resumed_from"]) == (3, 1, None)
    assert outcome["final_loss"] == 2.0 / 3
    assert outcome["tokens_per_second"] == 90.0
    assert outcome["output"] == str(run.path / "output")
    assert outcome["adapter_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert processes.of_run(run.path) == []


def test_the_supervisor_leads_its_own_session_and_carries_the_run_id(make_bundle):
    run = start(make_bundle(GATED).path)
    pid = run.read().pid

    assert os.getsid(pid) == pid != os.getsid(0)
    assert processes.environment(pid)["RUN_ID"] == run.name
    assert Path(f"/proc/{pid}/fd/0").resolve() == Path("/dev/null")
    (run.path / "go").touch()
    list(follow(run))
    assert result(run)["status"] == "finished"


def test_hang_up_and_interrupt_do_not_end_a_run(make_bundle):
    run = start(make_bundle(GATED).path)
    wait_until(lambda: has_step(run, 1), "the first step")

    for pid in processes.of_run(run.path):
        os.kill(pid, signal.SIGHUP)
    os.kill(run.read().pid, signal.SIGINT)
    (run.path / "go").touch()
    list(follow(run))

    assert result(run)["status"] == "finished"


def test_a_killed_supervisor_leaves_a_running_run_that_stop_lets_save_and_ends(make_bundle):
    run = start(make_bundle(GATED).path)
    wait_until(lambda: has_step(run, 1), "the first step")

    kill(run.read().identity)

    assert run.status() == "running"
    done = stop(run)
    assert (done.status, done.was_running, done.killed, done.left) == ("stopped", True, (), 0)
    assert (run.path / "saved").exists()


def test_the_end_is_known_although_nobody_supervised_it(make_bundle):
    run = start(make_bundle(GATED + "sys.exit(7)\n").path)
    wait_until(lambda: has_step(run, 1), "the first step")

    kill(run.read().identity)
    (run.path / "go").touch()
    list(follow(run))

    assert (run.read().status, run.read().exit_code) == ("failed", 7)
    assert processes.of_run(run.path) == []


def test_a_run_of_an_earlier_boot_is_interrupted_and_resume_is_next(make_bundle):
    run = start(make_bundle(GATED).path)
    wait_until(lambda: has_step(run, 1), "the first step")
    before = run.read()
    processes.kill_run(run.path)
    run.write(replace(before, boot_id="00000000-0000-4000-8000-000000000000"))

    list(follow(run))  # ends, although nobody has written an end
    outcome = result(run)

    assert (outcome["status"], outcome["output"]) == ("interrupted", None)
    said = problem(run, outcome)
    assert said.message("en").startswith(f"run {run.name} was interrupted at step 1 of 3")
    assert said.next("en") == f"finetui resume {run.name}"
    assert (stop(run).was_running, run.status()) == (False, "interrupted")


def test_stop_lets_the_trainer_save_and_leaves_no_process(make_bundle):
    run = start(make_bundle(GATED).path)
    wait_until(lambda: has_step(run, 1), "the first step")

    done = stop(run)

    assert (done.status, done.was_running, done.killed) == ("stopped", True, ())
    assert (run.path / "saved").exists()
    assert processes.of_run(run.path) == []
    assert result(run)["status"] == "stopped"
    assert not (Path(run.read().bundle) / "evidence").exists()


def test_stop_kills_what_does_not_end(make_bundle):
    stubborn = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done'], start_new_session=True)\n"
        "started()\nstep(1)\nwait_for(out / 'go')\n"
    )
    run = start(make_bundle(stubborn).path)
    wait_until(lambda: has_step(run, 1), "the first step")

    done = stop(run, grace_s=0.2)

    assert done.status == "stopped"
    assert len(done.killed) >= 2
    assert processes.of_run(run.path) == []


def test_stopping_an_ended_run_changes_nothing(make_bundle):
    run = start(make_bundle().path)
    list(follow(run))

    assert stop(run).was_running is False
    assert result(run)["status"] == "finished"


def test_every_cause_has_words_and_a_next_command():
    for cause in CAUSES:
        assert {"en", "zh", "next"} <= entry(f"runs.cause-{cause}").keys(), cause


@pytest.mark.parametrize(
    ("body", "cause", "words"),
    [
        ("started()\nstep(1)\n", "no-record", "done.json"),
        ("started()\nsys.exit(3)\n", "error", "exit code 3"),
        ("started()\nstep(1)\nraise ValueError('it broke')\n", "error", "ValueError: it broke"),
        ("started()\nos.kill(os.getpid(), 9)\n", "killed", "killed from outside"),
        ("started()\nevent('failed', 2, cause='nan', detail='loss')\nsys.exit(1)\n", "nan", "no longer a number"),
        (
            "started()\nevent('failed', 2, cause='adapter-never-moved', detail='x')\nsys.exit(1)\n",
            "adapter-never-moved",
            "as it was at the start",
        ),
        ("started(world_size=2)\nfor n in (1, 2, 3): step(n)\nfinish()\n", "world-size", "locked 1, trained 2"),
        (
            WHOLE + "(out / 'output/adapter_model.safetensors').write_bytes(b'other')\n",
            "output-mismatch",
            "adapter_model.safetensors",
        ),
        ("started()\nevent('failed', 2, cause='brand-new', detail='odd \\x1b]0;x')\nsys.exit(1)\n", "brand-new", "odd"),
    ],
)
def test_a_failure_is_told_by_its_cause(make_bundle, body, cause, words):
    run = start(make_bundle(body).path)
    list(follow(run))

    outcome = result(run)
    said = problem(run, outcome)

    assert (outcome["status"], outcome["cause"], outcome["output"]) == ("failed", cause, None)
    assert outcome["adapter_sha256"] is None
    assert (run.read().status, run.read().cause) == ("failed", cause)
    assert words in said.message("en")
    assert said.next("en").startswith(("finetui ", "df "))
    assert said.message("zh") != said.message("en")


def test_a_wrong_world_size_ends_the_training_at_once(make_bundle):
    run = start(make_bundle("started(world_size=4)\nstep(1)\nwait_for(out / 'never')\n", world_size=2).path)

    list(follow(run))

    assert result(run)["cause"] == "world-size"
    assert processes.of_run(run.path) == []


def test_success_is_taken_back_when_the_output_changes_later(make_bundle):
    run = start(make_bundle().path)
    list(follow(run))

    (run.path / "output/adapter_model.safetensors").write_bytes(b"other")

    assert (result(run)["status"], result(run)["cause"]) == ("failed", "output-mismatch")


def test_a_launcher_that_cannot_start_fails_the_run_with_its_last_words(make_bundle):
    run = start(make_bundle("raise ImportError('no module nothing')\n").path)
    list(follow(run))

    assert result(run)["detail"] == "ImportError: no module nothing"


def test_a_supervisor_that_cannot_go_on_says_so_in_the_state(make_bundle, monkeypatch):
    made = make_bundle()
    monkeypatch.setenv("PATH", "/nowhere")

    run = start(made.path)

    assert (result(run)["status"], result(run)["cause"]) == ("failed", "supervisor")
    assert "bash" in result(run)["detail"]


def test_neither_a_relative_home_nor_a_module_in_the_current_folder_disturbs_a_run(make_bundle, monkeypatch, home):
    made = make_bundle()
    home.mkdir(exist_ok=True)
    (home.parent / "json.py").write_text("raise SystemExit('not the standard library')\n")
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("FINETUI_HOME", home.name)

    run = prepare(made.path, on_progress=None)
    launch(run)
    list(follow(run))

    assert result(run)["status"] == "finished"


def test_a_second_supervisor_does_not_touch_a_run_that_has_one(make_bundle):
    run = start(make_bundle(GATED).path)
    wait_until(lambda: has_step(run, 1), "the first step")
    before = read_state(run)

    with pytest.raises(FinetuiError) as error:
        launch(run)

    assert error.value.problems[0].code == "runs.has-supervisor"
    assert str(run.read().pid) in str(error.value)
    assert read_state(run) == before
    (run.path / "go").touch()
    list(follow(run))
    assert result(run)["status"] == "finished"


def machine_with(*indices: int) -> Machine:
    gpus = tuple(Gpu(index, "rtx3090", "NVIDIA GeForce RTX 3090", 24 << 30, "590") for index in indices)
    return Machine("GenuineIntel", "Xeon", "avx512", 8, 8, 64 << 30, gpus)


def test_a_gpu_that_is_not_there_is_said_before_anything_starts(make_bundle, home):
    with pytest.raises(FinetuiError) as error:
        start(make_bundle(WHOLE).path, gpus="0,3,7", machine=machine_with(0, 1))

    assert (error.value.exit_code, error.value.problems[0].code) == (5, "runs.no-gpu")
    assert "3,7" in str(error.value)
    assert list_runs() == []


def test_the_state_of_a_run_started_with_gpus_reaches_the_trainer(make_bundle):
    body = "(out / 'gpus').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n" + WHOLE
    run = start(make_bundle(body).path, gpus="0,2", machine=machine_with(0, 1, 2))
    list(follow(run))

    assert (run.path / "gpus").read_text() == "0,2"


def test_what_the_starter_has_in_its_environment_decides_nothing(make_bundle, monkeypatch):
    monkeypatch.setenv("FINETUI_STOP_AFTER", "1")
    monkeypatch.setenv("DATA", "/elsewhere")
    run = start(make_bundle(WHOLE + "(out / 'data').write_text(os.environ.get('DATA', 'none'))\n").path)
    list(follow(run))

    assert result(run)["steps"] == 3
    assert (run.path / "data").read_text() == "none"


def test_a_changed_bundle_is_not_run(make_bundle, home):
    made = make_bundle()
    (made.path / "recipe.toml").write_text("changed")

    with pytest.raises(FinetuiError) as error:
        prepare(made.path)

    assert error.value.exit_code == MISMATCH
    assert "recipe.toml" in error.value.problems[0].message("en")
    assert not (home / "runs").exists()


def test_unknown_code_runs_only_where_its_id_is_named(make_bundle):
    made = make_bundle(trusted=False)

    with pytest.raises(FinetuiError) as error:
        prepare(made.path)
    assert error.value.exit_code == BAD_INPUT

    run = start(made.path, trust=made.id)
    list(follow(run))
    assert result(run)["status"] == "finished"


def test_another_model_is_refused_with_the_files_that_differ(make_bundle, tmp_path):
    other = make_tiny_model(tmp_path / "other", seed=1)

    with pytest.raises(FinetuiError) as error:
        prepare(make_bundle().path, model=str(other))

    assert error.value.exit_code == MISMATCH
    assert "model.safetensors" in error.value.problems[0].message("en")


def test_a_model_that_is_nowhere_is_named(make_bundle, monkeypatch):
    made = make_bundle()
    monkeypatch.delenv("FINETUI_MODELS")

    with pytest.raises(FinetuiError) as error:
        prepare(made.path)

    assert (error.value.exit_code, error.value.problems[0].code) == (BAD_INPUT, "runs.no-model")


def test_a_full_disk_is_seen_before_the_start(make_bundle):
    with pytest.raises(FinetuiError) as error:
        prepare(make_bundle().path, free_bytes=lambda _: 1000)

    assert error.value.exit_code == MACHINE


def test_two_runs_of_one_bundle_in_the_same_second_have_names_of_their_own(make_bundle):
    made = make_bundle()
    first, second = start(made.path), start(made.path)

    assert first.name != second.name
    for run in (first, second):
        list(follow(run))
        assert result(find_run(run.name))["status"] == "finished"


def test_a_run_of_the_same_name_in_another_home_is_not_touched(make_bundle, home, monkeypatch):
    made = make_bundle(GATED)
    mine = start(made.path)
    monkeypatch.setenv("FINETUI_HOME", str(home.parent / "theirs"))
    trust.remember(made.id)
    monkeypatch.setattr("finetui.runs.folder.time.strftime", lambda _: mine.name[:15])
    theirs = start(made.path)
    assert theirs.name == mine.name

    stop(theirs, now=True)

    assert (processes.of_run(theirs.path), mine.status()) == ([], "running")
    assert stop(mine).status == "stopped"
