"""The packages of the training interpreter: there, new enough, made for one another, and importable."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from finetui.core.errors import ShellWords
from finetui.doctor.bounds import normal, satisfies, unmet, wanted
from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, say
from finetui.doctor.interpreter import AGAIN, OLDEST, Interpreter
from finetui.doctor.remedies import fresh_python
from finetui.doctor.situation import Situation

_OWN_CHECKS = frozenset({"torch", "bitsandbytes", "flash-attn"})
"""Packages whose absence is another check's to tell; of torch, its version too."""
_SHOWN = ("transformers", "peft", "accelerate", "trl")


def check_interpreter(situation: Situation) -> Iterator[Finding]:
    """Whether the training interpreter answers at all."""
    there = situation.interpreter
    if there is None:
        return
    level = MISSING if situation.purpose.packages else WARNING
    if there.version is not None and there.version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        facts = {"version": ".".join(map(str, there.version)), "oldest": oldest}
        yield say(level, "python-old", python=there.path, command=fresh_python(situation, oldest), **facts)
    elif there.problem is not None:
        yield Finding(level, there.problem)
    elif there.found:
        yield say(OK, "python-ok", python=there.path, version=there.stage("python")["version"])
        if there.stage("python").get("is_managed"):
            yield say(NOTE, "python-managed", python=there.path)


def check_packages(situation: Situation) -> Iterator[Finding]:
    """What there is to say of versions and imports."""
    there = situation.interpreter
    if there is None or "packages" not in there.found:
        return
    purpose = situation.purpose
    absent = [name for name in purpose.packages if there.version_of(name) is None and name not in _OWN_CHECKS]
    if absent:
        install = ShellWords(f"{there.install()}{_wanted(situation, absent)}")
        yield say(MISSING, "packages-absent", python=there.path, packages=", ".join(absent), install=install)
    faults = [*_too_old(situation, there), *_at_odds(situation, there), *_broken(situation, there)]
    yield from faults
    if not absent and not faults and purpose.packages:
        shown = [f"{name} {version}" for name in _SHOWN if (version := there.version_of(name))]
        yield say(OK, "packages-ok", packages=", ".join(shown))


def _too_old(situation: Situation, there: Interpreter) -> Iterator[Finding]:
    for name in there.stage("packages"):
        bound, version = situation.bounds.get(name), there.version_of(name)
        if name != "torch" and bound is not None and version is not None and not satisfies(version, bound):
            level = MISSING if situation.purpose.needs(name) else WARNING
            install = ShellWords(f"{there.install()}{_wanted(situation, [name])}")
            yield say(level, "package-old", package=name, version=version, bound=bound, install=install)


def _at_odds(situation: Situation, there: Interpreter) -> Iterator[Finding]:
    """Versions that do not go together, by what the packages themselves ask for."""
    python = str(there.stage("python").get("version", "3.11"))
    for name, requirement, version in unmet(there.stage("packages"), python):
        asked = f"{requirement.name}{requirement.specifier}"
        yield say(
            WARNING,
            "packages-at-odds",
            package=f"{name} {there.version_of(name)}",
            wanted=asked,
            there=f"{normal(requirement.name)} {version}",
            install=ShellWords(f"{there.install()} {shlex.quote(asked)}"),
        )


def _broken(situation: Situation, there: Interpreter) -> Iterator[Finding]:
    for name, error in there.stage("imports").items():
        if error is not None:
            level = MISSING if situation.purpose.needs(name) else WARNING
            install = ShellWords(f"{there.install()} {AGAIN}{_wanted(situation, [name])}")
            yield say(level, "package-broken", package=name, words=error, install=install)


def _wanted(situation: Situation, names: Iterable[str]) -> str:
    return "".join(f" {wanted(situation.bounds, name)}" for name in names)
