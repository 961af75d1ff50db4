"""Chat by lines: who is to answer, then the line mode of `finetui chat`."""

from __future__ import annotations

from finetui.cli.chat import announce
from finetui.cli.chat_lines import Lines
from finetui.cli.plain.talk import Option, Told, choose
from finetui.core.messages import t
from finetui.core.text import one_line

_MOST = 20


def chat(reference: str = "") -> None:
    """Talk to this one, or to one who is chosen.

    Raises FinetuiError where there is nobody of that name, or it cannot be loaded.
    """
    from finetui.chat.engine import ChatEngine, resolve
    from finetui.chat.settings import Sampling

    output = Told()
    served = resolve(reference or _chosen())
    announce(output, served)
    with ChatEngine(served) as engine:
        Lines(output, engine, Sampling(), None, compare=False).live()


def _chosen() -> str:
    """The base of a run answers beside it by /compare, and an address in the app alone: neither is offered here."""
    from finetui.chat.offers import offered
    from finetui.chat.who import BASE, ENDPOINT

    found = [who for who in offered() if who.kind not in (BASE, ENDPOINT)][:_MOST]
    options = [Option(who.reference, one_line(t(f"chat.who-{who.kind}", **who.facts))) for who in found]
    default = found[0].reference if found else ""
    word, typed = choose(t("plain.who"), options, default, about=t("plain.help-who"), is_free=True)
    return word or typed
