"""Whether the hubs can be reached from here, and whether the hub knows the token; only where going online was asked."""

from __future__ import annotations

import email.utils
import threading
import time
from dataclasses import dataclass, replace

from finetui.core.errors import FinetuiError
from finetui.models.fetch.sites import HUB, Site

LIMIT_S = 10.0
"""What each question may take, whatever hangs."""
_PATHS = {HUB: "/api/models?limit=1"}
_LOGIN_REFUSED = (401, 403)


@dataclass(frozen=True)
class Answer:
    """What came of one question to a site."""

    reached: bool
    words: str = ""
    """Why it was not reached."""
    token_refused: bool = False
    """Whether the site does not know the token that it was sent."""
    clock_ahead_s: float | None = None
    """By how much the clock here is ahead of the site's; None where it did not say."""


@dataclass(frozen=True)
class Network:
    """What came of all of them; None for a site that cannot be asked."""

    hub: Answer | None
    modelscope: Answer | None

    @property
    def clock_ahead_s(self) -> float | None:
        """By how much the clock here is ahead of the sites'; None where none of them said."""
        told = [answer.clock_ahead_s for answer in (self.hub, self.modelscope) if answer is not None]
        return next((ahead for ahead in told if ahead is not None), None)


def ask_network(hub: Site | None, modelscope: Site | None, limit_s: float = LIMIT_S) -> Network:
    """Ask both at once."""
    answers: dict[str, Answer] = {}
    threads = [
        threading.Thread(target=_ask, args=(site, answers), daemon=True)
        for site in (hub, modelscope)
        if site is not None
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit_s)
    late = Answer(False, "time out")
    return Network(
        None if hub is None else answers.get(hub.name, late),
        None if modelscope is None else answers.get(modelscope.name, late),
    )


def _ask(site: Site, answers: dict[str, Answer]) -> None:
    reached = _reach(Site(site.name, site.endpoint), _PATHS.get(site.name, "/"))
    if reached.reached and site.name == HUB and site.token:
        known = _reach(site, "/api/whoami-v2")
        reached = replace(reached, token_refused=known.token_refused)
    answers[site.name] = reached


def _ahead(date: str | None) -> float | None:
    """By how much the clock here is ahead of a moment as HTTP writes it."""
    try:
        return None if date is None else time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _reach(site: Site, path: str) -> Answer:
    from finetui.models.fetch.http import Broken, Client, Refused  # httpx, which only this needs

    try:
        client = Client(site)
    except FinetuiError as error:
        return Answer(False, error.problems[0].message())
    try:
        with client.get(site.endpoint + path) as response:
            return Answer(True, clock_ahead_s=_ahead(response.headers.get("date")))
    except Refused as refused:
        return Answer(refused.status > 0, refused.words, token_refused=refused.status in _LOGIN_REFUSED)
    except Broken as broken:
        return Answer(broken.status is not None, broken.words)
    finally:
        client.close()
