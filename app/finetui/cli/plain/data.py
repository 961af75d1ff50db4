"""The first step by lines: which data, how it is read, what is in it, which of its rows are taken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from finetui.cli.describe import held, recognised
from finetui.cli.plain.progress import HowFar
from finetui.cli.plain.settings import assigned, tell
from finetui.cli.plain.talk import Back, Option, ask, choose, say, say_error
from finetui.core.errors import FinetuiError, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.data.said import said, speaker_name
from finetui.draft import Draft
from finetui.drafts import NOTHING
from finetui.models.fetch.space import in_words
from finetui.offers import Place, format_of, near
from finetui.steps import PARTS, Seen, attempt, choosing, look_into, read_through, suggestion, unmapped

if TYPE_CHECKING:
    from finetui.cli.plain.wizard import Wizard
    from finetui.data import Inspection, Record, Rejected

_OFFERED = 12
_ROW = 2000
"""Characters of a message that are shown."""
_AT_ONCE = 1 << 28
"""Bytes of data that are read through unasked."""


def step(wizard: Wizard) -> None:
    """Until there is data of which something can be trained."""
    desk = _Desk(wizard)
    while True:
        if not wizard.draft.data:
            _add(wizard)
        while desk.look():
            pass
        if not wizard.draft.data:
            continue
        word, typed = choose(t("plain.next"), desk.options(), desk.default(), about=_about(), is_free=True)
        if word == "go" and desk.is_usable():
            return
        try:
            desk.do(word, typed)
        except Back:
            continue


class _Desk:
    """The chosen data, and what was found in it."""

    def __init__(self, wizard: Wizard) -> None:
        self._wizard = wizard
        self._seen: Seen | None = None
        self._read = NOTHING
        """The draft whose data could be read last."""
        self._columns: tuple[str, ...] = ()

    def look(self) -> bool:
        """Recognise what was chosen, say what it is, and ask what it does not tell; whether that has changed it.

        Where it cannot be read, the choice goes back to the last that could.
        """
        draft, read = self._wizard.draft, self._read
        if (draft.data, draft.reading) == (read.data, read.reading):
            return False
        say(t("wizard.looking"))
        seen = attempt(lambda: _look(draft))
        if isinstance(seen, FinetuiError):
            say_error(seen)
            self._wizard.change(replace(draft, data=read.data, reading=read.reading))
            return False
        self._seen, self._read = seen, draft
        self._columns = unmapped(seen.inspection) or (self._columns if draft.reading.mapping else ())
        self._tell(seen)
        try:
            if seen.inspection.question is not None:
                self._ask_question()
            elif self._columns and not draft.reading.mapping:
                self._ask_columns()
        except Back:
            return False
        return self._wizard.draft != draft

    def is_usable(self) -> bool:
        """Whether something of it can be trained."""
        return self._seen is not None and not self._seen.inspection.refusals()

    def options(self) -> list[Option]:
        """What can be done next."""
        words = ["go", "add", "remove", "rows"]
        if self._seen is not None:
            words += ["question"] if self._seen.inspection.question else []
            words += ["columns"] if self._columns else []
            words += [] if self._seen.whole else ["read"]
        return [Option(word, t(f"plain.data-{word}")) for word in words]

    def default(self) -> str:
        """What is done on Enter."""
        return "go" if self.is_usable() else "columns" if self._columns else "remove"

    def do(self, word: str, typed: str) -> None:
        """One of these things, or more data that was typed."""
        match word:
            case "go":
                say(t("wizard.unusable-data"))
            case "":
                self._wizard.change(replace(self._wizard.draft, data=_with(self._wizard.draft.data, typed)))
            case "add":
                _add(self._wizard)
            case "remove":
                self._remove()
            case "rows":
                _choose_rows(self._wizard)
            case "question":
                self._ask_question()
            case "columns":
                self._ask_columns()
            case "read" if self._seen is not None:
                self._seen = read_through(self._wizard.draft, self._seen, HowFar().reading)
                self._tell(self._seen)

    def _tell(self, seen: Seen) -> None:
        label = ""
        for head, fact, _ in (*recognised(seen.inspection), *held(seen.inspection)):
            label = head or label
            say(t("plain.fact", label=label, fact=one_line(fact, 1000)))
        if not seen.whole:
            say(t("plain.data-sampled"))
        for row in seen.rows[:1]:
            _tell_row(row)
        if refused := seen.inspection.refusals():
            say(render(refused))

    def _ask_question(self) -> None:
        assert self._seen is not None
        question = self._seen.inspection.question
        assert question is not None
        options = [Option(option.value, one_line(option.label.text())) for option in question.options]
        word, _ = choose(one_line(question.text.text(), 1000), options, options[0].word, about=_about())
        flags = next(option.flags for option in question.options if option.value == word)
        self._wizard.change(self._wizard.draft.reading_as(flags))

    def _ask_columns(self) -> None:
        assert self._seen is not None
        draft = self._wizard.draft
        likely = None if draft.reading.mapping else suggestion(self._seen.inspection)
        if likely:
            options = [
                Option("yes", t("wizard.columns-suggested", mapping=likely)),
                Option("no", t("plain.one-by-one")),
            ]
            word, _ = choose(t("plain.columns"), options, "yes", about=t("plain.help-columns"))
            if word == "yes":
                self._wizard.change(draft.reading_as(("--map", likely)))
                return
        nothing = Option("nothing", t("wizard.column-none"))
        parts = [nothing, *(Option(part, t(f"wizard.part-{part}")) for part in PARTS)]
        for column in self._columns:
            now = next((part for part, of in draft.reading.mapping.items() if of == column), "nothing")
            text = t("wizard.column-text", column=one_line(column))
            word, _ = choose(text, parts, now, about=t("plain.help-columns"))
            draft = draft.saying(column, None if word == "nothing" else word)
        self._wizard.change(draft)

    def _remove(self) -> None:
        draft = self._wizard.draft
        options = [Option(word, one_line(word)) for word in draft.data]
        word, _ = choose(t("plain.which-data"), options, draft.data[-1], about=_about())
        self._wizard.change(replace(draft, data=tuple(each for each in draft.data if each != word)))


def _look(draft: Draft) -> Seen:
    """What a sample of the rows tells, or all of them where that is soon done."""
    seen = look_into(draft)
    return read_through(draft, seen, HowFar().reading) if _size(seen.inspection) <= _AT_ONCE else seen


def _add(wizard: Wizard) -> None:
    """One more file or folder; a folder that is chosen is looked into, one that is typed is taken."""
    lead = ""
    while True:
        places = near(lead)[:_OFFERED]
        options = [Option(place.word, _place_words(place)) for place in places]
        default = next((place.word for place in places if not place.is_folder), "")
        word, typed = choose(t("plain.data-path"), options, default, about=_about(), is_free=True)
        if any(place.is_folder for place in places if place.word == word) and typed != word:
            lead = word
        else:
            draft = wizard.draft
            wizard.change(replace(draft, data=_with(draft.data, word or typed)))
            return


def _choose_rows(wizard: Wizard) -> None:
    while True:
        values = dict(choosing(wizard.draft))
        tell(values)
        typed = ask(t("plain.rows"), about=t("plain.help-settings"))
        if not typed:
            return
        if (changed := assigned(wizard.draft, typed, values)) is not None:
            wizard.change(changed)


def _with(data: tuple[str, ...], word: str) -> tuple[str, ...]:
    return data if word in data else (*data, word)


def _place_words(place: Place) -> str:
    if place.is_folder:
        return t("plain.folder", name=one_line(place.word))
    facts = {"name": one_line(place.word), "size": in_words(place.bytes)}
    found = format_of(place)
    return t("plain.file-format", format=found, **facts) if found else t("plain.file", **facts)


def _size(inspection: Inspection) -> int:
    return sum(file["bytes"] or 0 for file in inspection.to_json()["files"])


def _tell_row(row: Record | Rejected) -> None:
    from finetui.data import Rejected

    say(t("wizard.row", row=row.place.row, file=one_line(row.place.file)))
    if isinstance(row, Rejected):
        say(t("plain.fact", label=row.code, fact=t(f"data.row-{row.code}")))
        return
    for speaker, text in said(row.record):
        say(t("plain.fact", label=speaker_name(speaker), fact=text[:_ROW]))


def _about() -> str:
    return t("app.help-step-data")
