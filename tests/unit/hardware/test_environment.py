"""What is installed under an interpreter, read without importing it."""

from __future__ import annotations

import platform
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

from finetui.core import jobs
from finetui.core.errors import FinetuiError

pytestmark = pytest.mark.unit


def install(site: Path, name: str, release: str, requires: tuple[str, ...] = (), record: str = "") -> Path:
    """Lay a package's metadata into a site-packages folder."""
    folder = site / f"{name.replace('-', '_')}-{release}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {release}"]
    (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires), ""]))
    if record:
        (folder / "RECORD").write_text(record)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has nothing installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return folder / "bin/python"


def site_of(python: Path) -> Path:
    return next((python.parents[1] / "lib").glob("python*")) / "site-packages"


def test_this_interpreter_is_told_with_all_that_the_trainer_rests_on() -> None:
    found = jobs.run("environment", {})
    assert found["python"] == platform.python_version()
    for name in ("torch", "transformers", "peft", "accelerate", "huggingface-hub", "regex"):
        assert found["packages"][name] == version(name)
    assert list(found["packages"]) == sorted(found["packages"])
    assert found["torch"]["version"] == version("torch").partition("+")[0]
    assert len(found["torch"]["record_sha256"]) == 64


def test_nothing_is_imported() -> None:
    script = (
        "import sys; from finetui.workers.environment import handle; handle({}); "
        "print(sorted({'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_all_missing_packages_are_named_at_once(bare: Path) -> None:
    with pytest.raises(FinetuiError) as error:
        jobs.run("environment", {}, python=str(bare))
    assert error.value.exit_code == 5
    [problem] = error.value.problems
    assert str(bare) in problem.message("en")
    for name in ("torch", "transformers", "peft", "pyarrow"):
        assert name in problem.message("en")


def test_requirements_are_followed_but_extras_are_not(bare: Path) -> None:
    site = site_of(bare)
    install(site, "Alpha.Pkg", "1.0", ("beta-pkg>=1", "gone", "gamma; extra == 'x'", "alpha-pkg; python_version > '3'"))
    install(site, "beta_pkg", "2.0+local", ("alpha.pkg (>=1)",))
    install(site, "gamma", "3.0")
    found = jobs.run("environment", {"packages": ["alpha-pkg"]}, python=str(bare))
    assert found["packages"] == {"alpha-pkg": "1.0", "beta-pkg": "2.0+local"}
    assert found["torch"] == {"version": None, "local": None, "record_sha256": None}


def test_the_digest_of_torch_is_the_wheels_whoever_installed_it(bare: Path) -> None:
    wheel = "torch/__init__.py,sha256=abc,10\ntorch-9.0+cpu.dist-info/METADATA,sha256=def,20\n"
    by_pip = (
        "../../../bin/torchrun,sha256=host1,177\n"
        "torch-9.0+cpu.dist-info/INSTALLER,sha256=pip,4\n"
        "torch-9.0+cpu.dist-info/RECORD,,\n"
        "torch/__pycache__/__init__.cpython-311.pyc,,\n"
    )
    by_uv = "../../../bin/torchrun,sha256=host2,180\ntorch-9.0+cpu.dist-info/uv_cache.json,sha256=uv,4\n"
    digests = set()
    folder = install(site_of(bare), "torch", "9.0+cpu", record="x,,")
    for record in (by_pip + wheel, wheel + by_uv):
        (folder / "RECORD").write_text(record)
        told = jobs.run("environment", {"packages": ["torch"]}, python=str(bare))["torch"]
        assert (told["version"], told["local"]) == ("9.0", "cpu")
        digests.add(told["record_sha256"])
    (folder / "RECORD").write_text(wheel.replace("abc", "xyz"))
    other = jobs.run("environment", {"packages": ["torch"]}, python=str(bare))["torch"]["record_sha256"]
    (folder / "METADATA").unlink()
    (folder / "RECORD").unlink()
    folder.rmdir()
    assert len(digests) == 1
    assert other not in digests
