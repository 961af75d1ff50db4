"""Why a fetch could not be, in words: offline, no way to the site, a connection that keeps breaking, a refusal."""

from __future__ import annotations

import shlex

from finetui.core.errors import Problem, ShellWords
from finetui.core.fetched import DATASET, MODEL
from finetui.models.fetch.http import CERTIFICATE, Broken, Refused
from finetui.models.fetch.hub import explain_hub
from finetui.models.fetch.local import places
from finetui.models.fetch.modelscope import explain_modelscope
from finetui.models.fetch.reference import Reference, without_secrets
from finetui.models.fetch.sites import HUB, HUB_ENDPOINT, MIRROR, MODELSCOPE, URL, Site


def refused_words(refused: Refused, site: Site, asked: Reference) -> Problem:
    """A refusal, as its site means it."""
    if refused.code == CERTIFICATE:
        trust = {"host": refused.host, "words": refused.words, "command": _again(asked)}
        return Problem("fetch.certificate", trust)
    if asked.site == HUB:
        return explain_hub(refused, site, asked.name, asked.kind or MODEL, asked.revision)
    if asked.site == MODELSCOPE:
        return explain_modelscope(refused, site, asked.name, asked.kind or MODEL)
    facts = {"address": without_secrets(asked.name), "host": refused.host, "status": refused.status}
    return Problem("fetch.no-address" if refused.status in (404, 410) else "fetch.refused", {**facts, "words": ""})


def offline_words(asked: Reference) -> Problem:
    """That the network is forbidden, and what is here all the same."""
    return _with_copies("fetch.offline", asked, {})


def broken_words(broken: Broken, site: Site, asked: Reference) -> Problem:
    """That attempts were in vain: the site cannot be reached, or it keeps failing."""
    facts = {"host": broken.host, "words": broken.words, "wait": round(broken.wait_s or 0)}
    if broken.status == 429:
        return Problem("fetch.too-many-requests", {**facts, "command": _again(asked)})
    if broken.unreached and broken.host == site.host:
        elsewhere = f"HF_ENDPOINT={MIRROR} " if asked.site == HUB and site.endpoint == HUB_ENDPOINT else ""
        return _with_copies("fetch.unreachable", asked, {**facts, "elsewhere": ShellWords(elsewhere)})
    return Problem("fetch.broken-off", {**facts, "command": _again(asked)})


def _with_copies(code: str, asked: Reference, facts: dict[str, object]) -> Problem:
    """The problem, with the folders of this machine that bear the name, where there are some."""
    found = [] if asked.site == URL else places(asked.name, asked.kind, asked.revision)
    facts |= {"name": without_secrets(asked.name) if asked.site == URL else asked.name, "command": _again(asked)}
    if not found:
        return Problem(code, facts)
    return Problem(f"{code}-here", {**facts, "folders": ", ".join(map(str, found)), "first": str(found[0])})


def _again(asked: Reference) -> ShellWords:
    """The command that was given, without what may be secret in an address."""
    name = "'ADDRESS'" if asked.site == URL else shlex.quote(asked.name)
    words = f"{'modelscope:' if asked.site == MODELSCOPE else ''}{name}"
    revision = f" --revision {shlex.quote(asked.revision)}" if asked.revision else ""
    return ShellWords(f"finetui fetch {words}{revision}{' --dataset' if asked.kind == DATASET else ''}")
