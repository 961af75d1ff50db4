"""What the doctor says of the training interpreter and of the packages that it has."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from finetui.core.errors import Problem
from finetui.doctor.interpreter import Interpreter, ask_interpreter
from finetui.doctor.purpose import purpose_of
from finetui.recipes.recipe import load_recipe
from tests.unit.doctor.situations import PYTHON, T4, findings, interpreter, only, situation, troubles
from tests.unit.hardware.nvml import RTX3090

pytestmark = pytest.mark.unit

PIP = f"{PYTHON} -m pip install"


def test_all_absent_packages_are_installed_by_one_command() -> None:
    there = interpreter(versions={"transformers": None, "peft": None, "numpy": None})
    finding = only(situation(cards=[RTX3090], interpreter=there), "packages-absent")
    assert finding.level == "missing"
    assert "transformers, peft, numpy" in finding.problem.message()
    assert finding.problem.next() == f"{PIP} 'transformers>=5.10' 'peft>=0.19' 'numpy>=2'"


def test_no_torch_is_installed_from_the_index_that_fits() -> None:
    there = interpreter(versions={"torch": None}, torch={"error": "no"})
    command = only(situation(interpreter=there), "torch-absent").problem.next()
    assert command == f"{PIP} 'torch>=2.11' --index-url https://download.pytorch.org/whl/cpu"


def test_a_package_that_is_too_old_is_raised_alone() -> None:
    finding = only(situation(interpreter=interpreter(None, versions={"peft": "0.10.0"})), "package-old")
    assert (finding.level, finding.problem.next()) == ("missing", f"{PIP} 'peft>=0.19'")
    old = only(situation(interpreter=interpreter(None, versions={"torch": "2.4.0"})), "torch-old")
    assert "older than finetui needs" in old.problem.message()


def test_packages_that_do_not_go_together_are_named() -> None:
    requires = {"trl": ["transformers<5", "accelerate>=1.4.0", "vllm<0.9; extra == 'vllm'", "this is no requirement"]}
    finding = only(situation(interpreter=interpreter(None, requires=requires)), "packages-at-odds")
    assert finding.level == "warning"
    assert "trl 1.16.0 asks for transformers<5, but transformers 5.17.0 is there" in finding.problem.message()
    assert finding.problem.next() == f"{PIP} 'transformers<5'"


def test_a_package_that_cannot_be_imported_is_put_back_without_touching_torch() -> None:
    imports = {"transformers": None, "peft": "ImportError: cannot import name 'x'"}
    finding = only(situation(interpreter=interpreter(None, imports=imports)), "package-broken")
    assert finding.level == "missing"
    assert finding.problem.next() == f"{PIP} --force-reinstall --no-deps 'peft>=0.19'"


def test_bitsandbytes_is_needed_for_qlora_alone() -> None:
    there = interpreter(versions={"bitsandbytes": None})
    for names, level in ((("qlora",), "missing"), (("lora",), "note"), (("full", "qlora"), "missing")):
        finding = only(situation(*names, cards=[RTX3090], interpreter=there), "bitsandbytes-absent")
        assert (finding.level, finding.problem.next()) == (level, f"{PIP} 'bitsandbytes>=0.48'")


def test_bitsandbytes_without_kernels_for_the_card_is_told_by_what_it_failed_at() -> None:
    error = "RuntimeError: no kernel image is available for execution on the device"
    there = interpreter(bitsandbytes={"error": error})
    for names, level in ((("qlora",), "missing"), ((), "warning")):
        finding = only(situation(*names, cards=[T4], interpreter=there), "bitsandbytes-broken")
        assert finding.level == level
        assert error in finding.problem.message()
        assert finding.problem.next() == f"{PIP} --upgrade --force-reinstall --no-deps 'bitsandbytes>=0.48'"


def test_flash_attention_is_built_against_the_torch_that_is_there() -> None:
    where = situation(cards=[RTX3090])
    finding = only(where, "flash-absent")
    assert finding.level == "note"
    assert finding.problem.next() == (
        f"{PIP} setuptools wheel ninja packaging psutil && MAX_JOBS=4 {PIP} --no-build-isolation 'flash-attn>=2.7'"
    )
    error = "ImportError: flash_attn_2_cuda.so: undefined symbol: _ZN3c10"
    there = interpreter(versions={"flash-attn": "2.8.3"}, flash_attention={"error": error})
    broken = only(situation(cards=[RTX3090], interpreter=there), "flash-broken")
    assert broken.level == "warning"
    assert "--force-reinstall --no-deps --no-cache-dir --no-build-isolation" in (broken.problem.next() or "")


def test_flash_attention_is_not_advised_where_it_cannot_be_had_or_is_not_wanted() -> None:
    assert "flash-absent" not in findings(situation(cards=[T4]))
    assert "flash-absent" not in findings(situation())
    kernels = interpreter(versions={"kernels": "0.10"})
    assert "flash-absent" not in findings(situation(cards=[RTX3090], interpreter=kernels))
    assert only(situation(cards=[RTX3090], programs=()), "flash-no-compiler").level == "note"


def test_a_recipe_that_asks_for_flash_attention_needs_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[recipe]\nextends = "qlora-3090"\n[train]\nattn_implementation = "flash_attention_2"\n')
    purpose = purpose_of((), load_recipe(str(recipe)))
    assert purpose.names == ("qlora",)
    assert only(situation(cards=[RTX3090], purpose=purpose), "flash-absent").level == "missing"
    assert only(situation(cards=[T4], purpose=purpose), "flash-no-gpu").level == "missing"


@pytest.mark.parametrize(
    ("recipe", "names"), [("lora-3090", ("lora",)), ("full-a100x4", ("full",)), ("qlora-a100x4", ("qlora",))]
)
def test_a_recipe_says_what_is_looked_at(recipe: str, names: tuple[str, ...]) -> None:
    assert purpose_of((), load_recipe(recipe)).names == names
    assert purpose_of(("fetch",), load_recipe(recipe)).names == ("fetch", *names)


@pytest.mark.parametrize(
    ("python", "has_uv", "command"),
    [
        ({"has_pip": False}, True, f"uv pip install --python {PYTHON}"),
        ({"has_pip": False}, False, f"{PYTHON} -m pip install"),
        (
            {"is_managed": True, "has_ensurepip": True},
            False,
            f"{PYTHON} -m venv --system-site-packages venv && venv/bin/python -m pip install",
        ),
        ({"is_managed": True, "has_ensurepip": False}, False, f"{PYTHON} -m pip install --break-system-packages"),
        (
            {"is_managed": True},
            True,
            f"uv venv --allow-existing --system-site-packages --python {PYTHON} venv"
            " && uv pip install --python venv/bin/python",
        ),
    ],
)
def test_packages_are_installed_as_that_python_lets_them(python: dict[str, bool], has_uv: bool, command: str) -> None:
    there = interpreter(None, versions={"peft": None}, python=python)
    there = Interpreter(there.path, there.version, there.found, has_uv=has_uv)
    assert only(situation(interpreter=there), "packages-absent").problem.next() == f"{command} 'peft>=0.19'"


def fake_python(folder: Path, body: str) -> Path:
    """A program in Python's place: it answers the question for its version, and then does as it is told."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\nimport sys\n{textwrap.dedent(body)}")
    program.chmod(0o755)
    return program


def test_a_python_that_is_too_old_is_told_with_the_way_to_a_newer_one(tmp_path: Path) -> None:
    old = ask_interpreter(str(fake_python(tmp_path, "print(3, 9)")))
    where = situation(interpreter=old)
    finding = only(where, "python-old")
    assert finding.level == "missing"
    assert "is Python 3.9, too old" in finding.problem.message()
    assert finding.problem.next() == f"{sys.executable} -m venv venv"
    assert only(situation(interpreter=old, programs=("uv",)), "python-old").problem.next() == (
        "uv venv --python 3.11 venv"
    )


def test_another_python_is_asked_and_found_bare(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    there = ask_interpreter(str(tmp_path / "bare/bin/python"))
    assert there.problem is None
    assert there.version == sys.version_info[:2]
    said = troubles(situation(interpreter=there))
    assert said["torch-absent"] == said["packages-absent"] == "missing"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('hello'); sys.exit()", "does not answer as a Python"),
        ("sys.exit(3)", "does not answer as a Python"),
        ("print(3, 12) if '-c' in sys.argv else print('no worker')", "could not be examined"),
        (
            """
            if "-c" in sys.argv:
                print(3, 12)
            else:
                print('{"type": "progress", "stage": "torch"}', flush=True)
                __import__("os").kill(__import__("os").getpid(), 11)
            """,
            "it died at torch",
        ),
    ],
)
def test_an_interpreter_that_does_not_answer_is_a_finding(tmp_path: Path, body: str, words: str) -> None:
    there = ask_interpreter(str(fake_python(tmp_path, body)))
    assert isinstance(there.problem, Problem)
    report = findings(situation(interpreter=there))
    [finding] = [one for one in report.values() if one.problem is there.problem]
    assert finding.level == "missing"
    assert words in finding.problem.message()


def test_an_interpreter_that_hangs_is_given_up(tmp_path: Path) -> None:
    body = """
    if "-c" in sys.argv:
        print(3, 12)
    else:
        print('{"type": "progress", "stage": "torch"}', flush=True)
        sys.stdin.read()
        __import__("threading").Event().wait()
    """
    there = ask_interpreter(str(fake_python(tmp_path, body)), limit_s=0.5)
    assert there.problem is not None
    assert there.problem.code == "doctor.worker-slow"
    assert "hangs at torch" in there.problem.message()


def test_what_was_found_before_an_interpreter_died_is_kept(tmp_path: Path) -> None:
    body = """
    if "-c" in sys.argv:
        print(3, 12)
    else:
        print('{"type": "progress", "stage": "python", "found": {"version": "3.12.1", "has_pip": true}}', flush=True)
        print('{"type": "progress", "stage": "packages", "found": {}}', flush=True)
        print('{"type": "progress", "stage": "torch"}', flush=True)
        sys.exit(1)
    """
    there = ask_interpreter(str(fake_python(tmp_path, body)))
    said = troubles(situation(interpreter=there))
    assert said["torch-absent"] == "missing"
    assert said["worker-died"] == "missing"


def test_no_interpreter_at_that_place_is_a_finding(tmp_path: Path) -> None:
    there = ask_interpreter(str(tmp_path / "nothing"))
    assert troubles(situation(interpreter=there)) == {"no-interpreter": "missing"}


def test_the_doctor_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys; from finetui.cli.main import run; run(['doctor', '--for', 'fetch', '--json']);"
        "heavy = {'torch', 'transformers', 'bitsandbytes', 'numpy', 'peft', 'tokenizers', 'pyarrow', 'httpx'};"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
