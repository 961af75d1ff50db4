"""Commands that mend, as this machine and this user can run them."""

from __future__ import annotations

import shlex
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from finetui.core.errors import ShellWords
from finetui.doctor.situation import Situation

INSTALLERS = ("apt-get", "dnf", "zypper", "pacman", "conda")


def as_root(situation: Situation) -> ShellWords:
    """What a command that needs root's rights begins with; nothing where this user is root."""
    return ShellWords("" if situation.is_root else "sudo ")


def installing(situation: Situation, package: str) -> ShellWords:
    """The command that installs `tmux`, `slurm` or the GPU's `driver`; empty where nobody knows one."""
    for place, names in _table().items():
        here = place == situation.distribution if place not in INSTALLERS else place in situation.programs
        if here and package in names:
            return ShellWords(f"{names['install']} {names[package]}".format(root=as_root(situation)))
    return ShellWords("")


def fresh_python(situation: Situation, oldest: str) -> ShellWords:
    """The command that makes an environment with a Python that is new enough: finetui's own is."""
    if "uv" in situation.programs:
        return ShellWords(f"uv venv --python {oldest} venv")
    return ShellWords(f"{shlex.quote(sys.executable)} -m venv venv")


def hub_login(situation: Situation) -> ShellWords:
    """The command that logs in to the hub without a token in the shell's history."""
    if "hf" in situation.programs:
        return ShellWords("hf auth login")
    there = situation.interpreter
    if there is not None and there.version_of("huggingface-hub"):
        return ShellWords(f"{shlex.quote(there.path)} -c 'import huggingface_hub; huggingface_hub.login()'")
    return ShellWords("read -rs HF_TOKEN && export HF_TOKEN")


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_name("installers.toml").read_text(encoding="utf-8"))
