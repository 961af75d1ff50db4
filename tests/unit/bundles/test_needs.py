"""A bundle says which packages its training needs beyond the usual ones, and its launch script looks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetui.bundles.needs import needed_packages
from finetui.core import jobs
from finetui.core.errors import FinetuiError
from tests.unit.bundles.conftest import SETTINGS, Lock

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, ()),
        ({"load_in_4bit": False, "optim": "adamw_torch"}, ()),
        ({"load_in_4bit": True}, ("bitsandbytes",)),
        ({"load_in_8bit": True}, ("bitsandbytes",)),
        ({"optim": "paged_adamw_8bit"}, ("bitsandbytes",)),
    ],
)
def test_what_settings_need(settings: dict[str, Any], needed: tuple[str, ...]) -> None:
    assert needed_packages(settings) == needed


def test_the_launch_script_names_what_this_lock_needs_and_python_lacks(
    lock: Lock, tiny_model: Path, tmp_path: Path
) -> None:
    packed = lock(tmp_path / "packed.bundle", settings={**SETTINGS, "load_in_4bit": (True, "test")})
    plain = lock(tmp_path / "plain.bundle")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(bare), "MODEL": str(tiny_model), "OUT": str(tmp_path / "out")}
    said = {}
    for bundle in (packed, plain):
        script = ["bash", str(bundle.path / "launch.sh")]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 5
        said[bundle] = done.stderr
    assert "bitsandbytes" in said[packed]
    assert "bitsandbytes" not in said[plain]


def test_the_environment_of_such_a_lock_is_asked_for_them_too() -> None:
    found = jobs.run("environment", {"more": ["bitsandbytes"]})
    assert "bitsandbytes" in found["packages"]
    with pytest.raises(FinetuiError) as caught:
        jobs.run("environment", {"more": ["not-a-package"]})
    assert "not-a-package" in caught.value.problems[0].message("en")
