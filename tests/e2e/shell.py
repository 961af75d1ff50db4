"""The command `finetui` as a user runs it, and interpreters that lack a package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Container
from pathlib import Path
from typing import Any


class Shell:
    """The command `finetui` with a home of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {**os.environ, "FINETUI_HOME": str(root / "home"), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `finetui ARGUMENTS --json`, hold its exit code against `code`, and return its one JSON object."""
        command = [sys.executable, "-m", "finetui", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=self.root, check=False)
        assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown


def interpreter_without(folder: Path, packages: Container[str]) -> Path:
    """An interpreter that sees all of this one's packages but those, and nothing that is installed for development."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for path in next(Path(path) for path in sys.path if path.endswith("site-packages")).iterdir():
        if path.name.partition("-")[0] not in packages and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    return folder / "bin" / "python"
