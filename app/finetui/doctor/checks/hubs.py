"""The hubs: whether they may and can be reached, and whether there is a login."""

from __future__ import annotations

from collections.abc import Iterator

from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, say
from finetui.doctor.remedies import hub_login
from finetui.doctor.situation import Situation
from finetui.models.fetch.sites import HUB_ENDPOINT, MIRROR


def check_hubs(situation: Situation) -> Iterator[Finding]:
    """What there is to say of logins, and of the network where it was asked."""
    logins = situation.logins
    level = MISSING if situation.purpose.reaches_hub else WARNING
    for problem in logins.problems:
        yield Finding(level, problem)
    if logins.is_offline:
        yield say(level if situation.purpose.reaches_hub else NOTE, "offline")
    if logins.hub is not None:
        if logins.hub.token is None:
            yield say(NOTE, "hub-no-login", command=hub_login(situation))
        elif situation.network is None:
            yield say(OK, "hub-login", host=logins.hub.host)
    if situation.purpose.reaches_hub and logins.modelscope is not None and logins.modelscope.token is None:
        yield say(NOTE, "modelscope-no-login")
    yield from _network(situation, level)


def _network(situation: Situation, level: str) -> Iterator[Finding]:
    logins, network = situation.logins, situation.network
    if network is None:
        return
    if logins.hub is not None and network.hub is not None:
        host = logins.hub.host
        if not network.hub.reached:
            code = "hub-unreached" if logins.hub.endpoint == HUB_ENDPOINT else "hub-mirror-unreached"
            yield say(level, code, host=host, words=network.hub.words, mirror=MIRROR)
        elif network.hub.token_refused:
            yield say(WARNING, "hub-token-refused", host=host, command=hub_login(situation))
        else:
            yield say(OK, "hub-reached" if logins.hub.token is None else "hub-known", host=host)
    if logins.modelscope is not None and network.modelscope is not None:
        if network.modelscope.reached:
            yield say(OK, "modelscope-reached", host=logins.modelscope.host)
        else:
            yield say(NOTE, "modelscope-unreached", host=logins.modelscope.host, words=network.modelscope.words)
