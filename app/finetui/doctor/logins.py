"""Who this user is to the hubs and trackers: whether there is a login, never what it is."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetui.core.errors import FinetuiError, Problem
from finetui.models.fetch.sites import Site, hub_site, is_offline, modelscope_site

_WANDB_HOST = "api.wandb.ai"


@dataclass(frozen=True)
class Logins:
    """The sites that are asked, and whether there is a login to them."""

    hub: Site | None
    """The hub; None where its address or token cannot be one."""
    modelscope: Site | None
    """ModelScope; None likewise."""
    problems: tuple[Problem, ...]
    """What is wrong with their addresses and tokens."""
    wandb: bool
    """Whether there is a login to Weights & Biases."""
    is_offline: bool
    """Whether the environment forbids the network."""


def read_logins(environment: Mapping[str, str] = os.environ) -> Logins:
    """Look in the environment and in the files that a login writes."""
    problems: list[Problem] = []
    sites: list[Site | None] = []
    for site in (hub_site, modelscope_site):
        try:
            sites.append(site())
        except FinetuiError as error:
            problems += error.problems
            sites.append(None)
    return Logins(sites[0], sites[1], tuple(problems), _wandb(environment), is_offline())


def _wandb(environment: Mapping[str, str]) -> bool:
    if environment.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc.netrc(Path(environment.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False
    return known.authenticators(_WANDB_HOST) is not None
