"""Who this user is to the hubs and trackers: whether there is a login, never what it is."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from finetui.core.errors import FinetuiError, Problem
from finetui.models.fetch.sites import Site, hub_site, is_offline, modelscope_site

_WANDB = "https://api.wandb.ai"
_WANDB_KEY = re.compile(r"[\w-]{40,}", re.ASCII)  # an address of a private server may stand before it, with a dash


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
    wandb_malformed: bool
    """Whether its key cannot be one."""
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
    key = _wandb_key(environment)
    malformed = key is not None and not _WANDB_KEY.fullmatch(key)
    return Logins(sites[0], sites[1], tuple(problems), key is not None, malformed, is_offline())


def _wandb_key(environment: Mapping[str, str]) -> str | None:
    """Where wandb itself looks: its variable, else the file that its login writes."""
    if key := environment.get("WANDB_API_KEY", "").strip():
        return key
    host = urlsplit(environment.get("WANDB_BASE_URL") or _WANDB).hostname or ""
    try:
        known = netrc.netrc(Path(environment.get("NETRC") or "~/.netrc").expanduser()).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return known[2] if known else None
