"""How a run is judged whose first process had only to say that another one was gone."""

from __future__ import annotations

import pytest

from finetui.runs.following import follow
from finetui.runs.launch import start
from finetui.runs.outcome import judge, problem, result

pytestmark = pytest.mark.unit

LOST = "RuntimeError: Read error [127.0.0.1]:26830: Connection reset by peer"
FIRST = f"started()\nstep(1)\nevent('failed', 1, cause='error', detail='{LOST}')\n"
REPORT = "  exitcode  : -9 (pid: 25008)  (SIGKILL)\\n  traceback : Signal 9 (SIGKILL) received by PID 25008"


def judged(make_bundle, body):
    run = start(make_bundle(body).path)
    list(follow(run))
    return run, result(run)


def test_the_process_that_was_killed_is_the_cause_not_the_one_that_missed_it(make_bundle):
    run, outcome = judged(make_bundle, f"{FIRST}print('{REPORT}')\nsys.exit(1)\n")

    assert (outcome["status"], outcome["cause"]) == ("failed", "killed")
    assert outcome["detail"] == "Signal 9 (SIGKILL) received by PID 25008"
    assert problem(run, outcome).next("en") == f"finetui resume {run.name}"


@pytest.mark.parametrize("first", [FIRST, "started()\nstep(1)\n"], ids=["the first says so", "the first says nothing"])
def test_what_another_process_says_of_itself_is_the_cause(make_bundle, first):
    said = "process 1 failed: out-of-memory: RuntimeError: not enough memory"
    run, outcome = judged(
        make_bundle, f"{first}print('process 0 failed: error: {LOST}')\nprint('{said}')\nsys.exit(1)\n"
    )

    assert (outcome["cause"], outcome["detail"]) == ("out-of-memory", "process 1: RuntimeError: not enough memory")
    assert "out of memory" in problem(run, outcome).message("en")


def test_what_the_log_says_of_an_earlier_launch_is_past(make_bundle):
    run, _ = judged(make_bundle, f"{FIRST}print('{REPORT}')\nsys.exit(1)\n")
    state = run.read()
    later = type(state)(**{**vars(state), "log_from": run.log.stat().st_size})

    verdict = judge(run, later, 1, stop_asked=False)

    assert (verdict.cause, verdict.detail) == ("error", LOST)
