"""The second step by lines: which model, what it is, and a row of the data as it will see it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from finetui.cli.as_seen import Look, look
from finetui.cli.plain.progress import HowFar
from finetui.cli.plain.talk import Back, Option, ask, choose, say, say_error
from finetui.core.errors import FinetuiError, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.offers import ModelOffer, can_be_fetched, fetched, model, models
from finetui.steps import attempt, model_facts, model_size

if TYPE_CHECKING:
    from finetui.cli.plain.wizard import Wizard

_CONSENT = "accept"
_AFTER = ("go", "row", "template", "other")


def step(wizard: Wizard) -> None:
    """Until a model has been chosen."""
    while True:
        offer = _chosen(wizard)
        if offer is None:
            continue
        try:
            if _agreed(wizard, offer):
                return
        except Back:
            continue


def _chosen(wizard: Wizard) -> ModelOffer | None:
    """One of the models on this machine, or one that was typed; None where that is to be asked again."""
    offers, chosen = models(), wizard.draft.model
    if chosen and chosen not in [offer.reference for offer in offers]:
        named = attempt(lambda: model(chosen))
        offers = offers if isinstance(named, FinetuiError) else [named, *offers]
    options = [Option(offer.reference, _words(offer)) for offer in offers]
    default = chosen if chosen in [option.word for option in options] else options[0].word
    word, typed = choose(t("plain.which-model"), options, default, about=t("app.help-step-model"), is_free=True)
    if word:
        return next(offer for offer in offers if offer.reference == word)
    found = attempt(lambda: model(typed))
    if isinstance(found, FinetuiError):
        say_error(found)
        return _fetched(typed) if can_be_fetched(typed) else None
    return found


def _fetched(reference: str) -> ModelOffer | None:
    say(t("wizard.fetch-text", model=one_line(reference)))
    options = [Option(word, t(f"wizard.fetch-{word}")) for word in ("yes", "no")]
    try:
        word, _ = choose(t("plain.which-way"), options, "yes", about=t("cli.help-fetch"))
    except Back:
        return None
    found = attempt(lambda: fetched(reference, HowFar())) if word == "yes" else None
    if isinstance(found, FinetuiError):
        say_error(found)
        return None
    return found


def _agreed(wizard: Wizard, offer: ModelOffer) -> bool:
    """Whether it is taken, once its facts have been said; its own code is consented to in a word."""
    if offer.problems:
        say(render(offer.problems))
        return False
    seen = _tell(wizard, offer)
    while True:
        options = [Option(word, t(f"plain.model-{word}")) for word in _AFTER]
        word, _ = choose(t("plain.next"), options, "go", about=t("app.help-step-model"))
        if word == "row":
            _tell_row(seen)
        elif word == "template":
            _choose_template(wizard)
            seen = _tell(wizard, offer)
        elif word == "other":
            return False
        elif _may_run(offer):
            wizard.change(replace(wizard.draft, model=offer.reference))
            return True


def _tell(wizard: Wizard, offer: ModelOffer) -> Look | None:
    outline = offer.outline
    seen = look(wizard.draft, outline.folder) if outline is not None and outline.has_tokenizer else None
    for label, fact, _ in model_facts(offer, seen.template if seen else ""):
        say(t("plain.fact", label=label, fact=fact) if label else fact)
    return seen


def _tell_row(seen: Look | None) -> None:
    if seen is None:
        say(t("wizard.no-tokenizer"))
        return
    for line in seen.lines():
        say(line)


def _may_run(offer: ModelOffer) -> bool:
    code = offer.outline.custom_code if offer.outline else ()
    if not code:
        return True
    say(t("wizard.code-text", model=one_line(offer.reference), files=one_line(", ".join(code))))
    return ask(t("plain.consent", word=_CONSENT), about=t("wizard.code-title")).lower() == _CONSENT


def _choose_template(wizard: Wizard) -> None:
    from finetui.core.encode import BUILTIN

    say(t("wizard.template-text"))
    options = [Option("own", t("wizard.template-own")), *(Option(name, name) for name in BUILTIN)]
    now = wizard.draft.template or "own"
    word, typed = choose(t("plain.which-template"), options, now, about=t("wizard.template-text"), is_free=True)
    wizard.change(replace(wizard.draft, template=None if word == "own" else word or typed))


def _words(offer: ModelOffer) -> str:
    name, outline = one_line(offer.reference), offer.outline
    if outline is None:
        about = t("plain.model-unusable" if offer.problems else "wizard.model-made")
        return t("plain.fact", label=name, fact=about)
    what = f"{model_size(outline.parameters)}, {outline.dtype}, {one_line(outline.architecture, 60)}"
    return t("plain.fact", label=name, fact=what)
