"""The versions that finetui asks for, from its own metadata, and what packages ask of one another."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

Bounds = Mapping[str, SpecifierSet]
"""By package."""

_PACKAGE = "finetui"


def read_bounds() -> Bounds:
    """What finetui's metadata asks of each package, all extras together; empty where it is not installed."""
    try:
        lines = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        lines = []
    bounds: dict[str, SpecifierSet] = {}
    for line in lines:
        requirement = Requirement(line)
        name = normal(requirement.name)
        bounds[name] = bounds.get(name, SpecifierSet()) & requirement.specifier
    return bounds


def wanted(bounds: Bounds, package: str) -> str:
    """The package with its bound, as an installer takes it, quoted for a shell."""
    return shlex.quote(f"{package}{bounds.get(package) or ''}")


def satisfies(version: str, bound: SpecifierSet) -> bool:
    """Whether a version will do; one that cannot be read is given the benefit of the doubt."""
    try:
        return bound.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def unmet(packages: Mapping[str, Mapping[str, Any]], python: str) -> Iterator[tuple[str, Requirement, str]]:
    """What the packages ask of one another and do not get: who asks, what for, and the version that is there."""
    versions = {name: str(found["version"]) for name, found in packages.items()}
    for name, found in packages.items():
        for line in found["requires"]:
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            there = versions.get(normal(requirement.name))
            if there is None or not _applies(requirement.marker, python):
                continue
            if not satisfies(there, requirement.specifier):
                yield name, requirement, there


def normal(name: str) -> str:
    """A package's name as all spellings of it are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _applies(marker: Marker | None, python: str) -> bool:
    """Whether a requirement holds under that Python on this system, extras aside."""
    there = {"extra": "", "python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    return marker is None or marker.evaluate(there)
