"""Bundles as Slurm and SkyPilot take them: what is asked for, where things are, and what cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetui.bundles.folder import Bundle
from finetui.cli.main import run
from finetui.core.errors import BAD_INPUT, USAGE, FinetuiError
from finetui.core.files import write_text
from finetui.runs import skypilot
from finetui.runs.slurm.script import Job, render
from finetui.runs.slurm.site import Site

pytestmark = pytest.mark.unit

LOCK: dict[str, Any] = {
    "name": "kites",
    "world_size": 4,
    "hardware": {"device": "cuda", "kind": "a100-80g", "count": 4, "torch": "2.13.0+cu128"},
    "training": {"omp_num_threads": {"value": 8}},
    "torch": {"version": "2.13.0", "local": "cu128", "record_sha256": ""},
}
JOB = Job(
    name="kites",
    lock=LOCK,
    bundle=Path("/shared/my bundle"),
    model="/shared/model",
    out="/shared/out",
    python="/shared/venv/bin/python",
    log="/shared/kites-%j.log",
    nodes=2,
)


def options(script: str) -> dict[str, str]:
    """What sbatch reads."""
    found = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in found)}


def test_a_script_asks_for_what_the_lock_needs_and_the_site_says() -> None:
    site = Site(
        account="lab", partition="gpu", gres="gpu:a100:2", time="24:00:00", preamble="module load cuda\nulimit -l"
    )
    found = options(render(JOB, site))
    assert found["nodes"] == "2"
    assert found["ntasks-per-node"] == "1"
    assert found["gres"] == "gpu:a100:2"
    assert (found["account"], found["partition"], found["time"]) == ("lab", "gpu", "24:00:00")
    assert (found["requeue"], found["open-mode"], found["signal"]) == ("", "append", "USR1@120")
    assert found["output"] == "/shared/kites-%j.log"
    assert "\nmodule load cuda\nulimit -l\n" in render(JOB, site)
    assert options(render(JOB, Site()))["gpus-per-node"] == "2"
    on_cpus = {**LOCK, "hardware": {"device": "cpu"}}
    assert options(render(replace(JOB, lock=on_cpus), Site()))["cpus-per-task"] == "16"


def test_a_script_is_shell_whatever_the_names_are(tmp_path: Path) -> None:
    odd = replace(JOB, bundle=tmp_path / "a 'b' $(touch x)", changes='{"packing": true}')
    path = tmp_path / "job.sbatch"
    path.write_text(render(odd, Site()))
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    block = path.read_text().partition("# >>> export\n")[2].partition("# <<< export")[0]
    said = subprocess.run(
        ["bash", "-c", f'{block}\nprintf "%s|%s" "$BUNDLE" "$FINETUI_CHANGES"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f'{odd.bundle}|{{"packing": true}}'


def test_processes_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(FinetuiError) as raised:
        render(replace(JOB, nodes=3), Site())
    assert (raised.value.exit_code, raised.value.problems[0].code) == (USAGE, "nodes.uneven")


@pytest.mark.parametrize(
    "text", ["[slurm]\nqueue = 'x'", "[slurm]\naccount = 3", "slurm = 1", "[slurm", "[slurm]\naccount='a\\nb'"]
)
def test_a_site_that_cannot_be_used_is_told(home: Path, text: str) -> None:
    home.mkdir()
    (home / "site.toml").write_text(text.replace("'a\\nb'", '"a\\nb"'))
    with pytest.raises(FinetuiError) as raised:
        Site.read()
    assert raised.value.problems[0].code == "slurm.bad-site"
    assert " str" not in raised.value.problems[0].message("en")
    assert raised.value.problems[0].file == str(home / "site.toml")


def test_a_task_of_skypilot() -> None:
    bundle = Bundle(Path("/here/kites.bundle"), LOCK, "ab" * 32)
    task = yaml.safe_load(skypilot.render(bundle, "/here/model", nodes=2))
    assert task["num_nodes"] == 2
    assert task["resources"] == {"accelerators": {"A100-80GB": 2}}
    assert task["file_mounts"] == {"~/finetui-bundle": "/here/kites.bundle", "~/finetui-model": "/here/model"}
    assert "torch==2.13.0 --index-url https://download.pytorch.org/whl/cu128" in task["setup"]
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0


def test_the_task_gives_launch_sh_its_place(tmp_path: Path) -> None:
    bundle = tmp_path / "finetui-bundle"
    bundle.mkdir()
    (bundle / "launch.sh").write_text('echo "$NNODES $NODE_RANK $MASTER $MODEL $OUT $PYTHON"')
    task = yaml.safe_load(skypilot.render(Bundle(bundle, LOCK, "00"), "/here/model", nodes=2))
    told = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6"}
    environment = {**os.environ, **told, **task["envs"], "HOME": str(tmp_path)}
    said = subprocess.run(["bash", "-c", task["run"]], env=environment, capture_output=True, text=True, check=True)
    home = str(tmp_path)
    places = f"{home}/finetui-model {home}/finetui-out {home}/finetui-venv/bin/python"
    assert said.stdout == f"2 1 10.0.0.5:29511 {places}\n"


@pytest.mark.soak
def test_skypilot_takes_the_task(tmp_path: Path) -> None:
    """By its own schema and its own reader; FINETUI_SKYPILOT_PYTHON is an interpreter that has the package."""
    python = os.environ.get("FINETUI_SKYPILOT_PYTHON") or sys.executable
    if subprocess.run([python, "-c", "import sky, jsonschema"], capture_output=True, check=False).returncode:
        pytest.skip("SkyPilot is not installed: set FINETUI_SKYPILOT_PYTHON")
    bundle = tmp_path / "kites.bundle"
    (bundle / "model").mkdir(parents=True)
    for kind in ("rtx3090", "a10", "a100-40g", "a100-80g", "h100-80g", "b200"):
        lock = {**LOCK, "hardware": {**LOCK["hardware"], "kind": kind}}
        path = tmp_path / "task.yaml"
        path.write_text(skypilot.render(Bundle(bundle, lock, "00"), str(bundle / "model"), nodes=2))
        check = (
            "import sys, yaml, jsonschema, sky; from sky.utils import schemas\n"
            "jsonschema.validate(yaml.safe_load(open(sys.argv[1])), schemas.get_task_schema())\n"
            "task = sky.Task.from_yaml(sys.argv[1]); print(task.num_nodes, *map(str, task.resources))\n"
        )
        said = subprocess.run([python, "-c", check, str(path)], capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith("2 ")


@pytest.mark.parametrize("target", ["slurm", "skypilot"])
def test_a_folder_that_is_not_there_is_named_with_the_command_that_makes_it(
    make_bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    out = tmp_path / "no such/x.yaml"
    assert run(["export", str(make_bundle().path), "--to", target, "--out", str(out)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert f"mkdir -p '{out.parent}'" in said
    assert ".part" not in said


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "no/x", tmp_path / "file/x"):
        with pytest.raises(OSError, match="x") as error:
            write_text(out, "")
        assert error.value.filename == str(out)


@pytest.mark.parametrize(
    "line",
    [
        "signal_seconds = 0",
        "signal_seconds = -5",
        "signal_seconds = 70000",
        'account = "a\\u001b[31m"',
        "account = 'a\"b'",
        "partition = 'a\\b'",
        'gres = "gpu:1\\n#SBATCH --wrap=x"',
        'preamble = "module load \\u0000"',
    ],
)
def test_what_sbatch_would_take_otherwise_is_refused(home: Path, line: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "site.toml").write_text(f"[slurm]\n{line}\n")
    with pytest.raises(FinetuiError, match=rf"\[slurm\] {line.partition(' ')[0]} ") as error:
        Site.read()
    assert error.value.exit_code == BAD_INPUT


def test_remarks_and_quotes_in_a_value_are_quoted() -> None:
    found = options(render(JOB, Site(account="o'brien", partition="a#1")))
    assert (found["account"], found["partition"]) == ('"o\'brien"', '"a#1"')
