"""`launch.sh`: the trainer's start, with what the lock decides filled into its marked block."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from finetui.bundles.needs import packages_of

_BLOCK = re.compile(r"(?m)^# >>> lock\n(?:.*\n)*?# <<< lock\n")
_VALUE = re.compile(r"[\w.:,/=+-]*", re.ASCII)


def variables(threads: int) -> dict[str, str]:
    """The environment variables of every training process."""
    return {**_table()["fixed"], **dict.fromkeys(_table()["threads"]["names"], str(threads))}


def are_variables(value: object) -> bool:
    """Whether `value` is a table of known variables, each with a harmless value."""
    known = {*_table()["fixed"], *_table()["threads"]["names"]}
    return isinstance(value, dict) and all(
        name in known and isinstance(text, str) and bool(_VALUE.fullmatch(text)) for name, text in value.items()
    )


def render(template: str, lock: Mapping[str, Any]) -> str:
    """The launch script of a lock: the block of the template holds its name, processes, packages and variables.

    Raises ValueError where the template has not exactly one block.
    """
    lines = [f'NAME="{lock["name"]}"', f"NPROC={lock['launch']['nproc_per_node']}"]
    if needs := packages_of(lock):
        lines.append(f'NEEDS="{" ".join(needs)}"')
    lines += [f'export {name}="{value}"' for name, value in sorted(lock["environment"].items())]
    return _fill(template, lines)


def blank(script: str) -> str:
    """A launch script with nothing in its block: the same for every lock.

    Raises ValueError where it has not exactly one block.
    """
    return _fill(script, [])


def _fill(script: str, lines: list[str]) -> str:
    block = "".join(f"{line}\n" for line in ["# >>> lock", *lines, "# <<< lock"])
    text, count = _BLOCK.subn(lambda _: block, script)
    if count != 1:
        raise ValueError("launch.sh needs exactly one block from `# >>> lock` to `# <<< lock`")
    return text


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("variables.toml").read_text(encoding="utf-8"))
