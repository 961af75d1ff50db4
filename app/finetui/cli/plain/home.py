"""Home by lines: this machine, the last runs, and a menu."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from finetui.app.home_facts import BundleRow, RunRow, bundles, last_runs, machine_facts, machine_lines
from finetui.app.taste import keep_taste, read_taste
from finetui.cli.plain.chatting import chat
from finetui.cli.plain.following import follow, tell_end
from finetui.cli.plain.talk import Back, Left, Option, choose, say, say_error
from finetui.cli.plain.wizard import Wizard
from finetui.core.errors import INTERRUPTED, FinetuiError
from finetui.core.messages import LANGUAGES, language, set_language, t
from finetui.core.text import one_line
from finetui.runs.figures import short_number
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.state import LIVE
from finetui.steps import attempt

_MENU = ("new", "watch", "chat", "run", "look", "language", "leave")
_LAST = 3
_MOST = 20


class Home:
    """The menu that everything comes back to."""

    def __init__(self) -> None:
        self._code = 0
        """That of the run that was followed last."""

    def live(self) -> int:
        """Until it is left; the exit code is that of the run that was followed last."""
        say(t("plain.welcome"))
        self._look()
        while True:
            try:
                options = [Option(word, t(f"plain.menu-{word}")) for word in _MENU]
                word, _ = choose(t("plain.menu"), options, "new", about=t("plain.help-menu"))
            except Back:
                continue
            except Left:  # the end of input is no interruption where nothing has been begun
                return self._code
            if word == "leave":
                return self._code
            self._enter(word)

    def _enter(self, word: str) -> None:
        """One of the rooms, and back."""
        rooms = {
            "new": self._new,
            "watch": self._watch,
            "chat": lambda: chat(),
            "run": self._run,
            "look": self._look,
            "language": _switch,
        }
        try:
            rooms[word]()
        except Back:
            return
        except FinetuiError as error:
            say_error(error)

    def _look(self) -> None:
        machine = attempt(machine_facts)
        if isinstance(machine, FinetuiError):
            say_error(machine)
        else:
            for line in machine_lines(machine):
                say(line)
        runs = last_runs(_LAST)
        say(t("plain.last-runs") if runs else t("app.home-no-runs"))
        for run in runs:
            say(_run_words(run))
        say(t("plain.bundles", count=len(bundles())))

    def _new(self) -> None:
        run = Wizard().live()
        if run is not None:
            self._followed(run, follow(run))

    def _watch(self) -> None:
        rows = last_runs(_MOST)
        if not rows:
            say(t("app.home-no-runs"))
            return
        options = [Option(row.name, _run_words(row)) for row in rows]
        word, typed = choose(t("plain.which-run"), options, rows[0].name, about=t("plain.help-watch"), is_free=True)
        run = find_run(word or typed)
        if run.status() in LIVE:
            self._followed(run, follow(run))
            return
        ways = [Option(way, t(f"plain.watch-{way}")) for way in ("end", "steps")]
        how, _ = choose(t("plain.which-way"), ways, "end", about=t("plain.help-watch"))
        self._followed(run, follow(run) if how == "steps" else tell_end(run))

    def _followed(self, run: RunFolder, code: int) -> None:
        """A run has been watched: one may talk to it."""
        self._code = 0 if code == INTERRUPTED else code
        if code:
            return
        options = [Option(word, t(f"plain.after-{word}")) for word in ("chat", "home")]
        word, _ = choose(t("plain.after"), options, "chat", about=t("app.help-chat"))
        if word == "chat":
            chat(str(run.path))

    def _run(self) -> None:
        from finetui.runs.launch import start

        found = bundles()[:_MOST]
        if not found:
            say(t("plain.no-bundles"))
            return
        options = [Option(each.name, _bundle_words(each)) for each in found]
        word, typed = choose(t("plain.which-bundle"), options, found[0].name, about=t("app.help-bundles"), is_free=True)
        row = next((each for each in found if each.name == word), None)
        folder = row.folder if row else Path(typed).expanduser()
        if row is not None:
            say(t("app.run-ask", steps=row.steps, model=one_line(row.model), folder=str(row.folder)))
        ways = [Option(way, t(f"app.run-{way}")) for way in ("yes", "wait", "not")]
        way, _ = choose(t("plain.which-way"), ways, "yes", about=t("app.help-bundles"))
        if way == "not":
            return
        say(t("app.resume-checks"))
        run = start(folder, wait=way == "wait")
        self._followed(run, follow(run))


def _switch() -> None:
    """The other language, from now on."""
    lang = LANGUAGES[(LANGUAGES.index(language()) + 1) % len(LANGUAGES)]
    set_language(lang)
    with contextlib.suppress(OSError):  # a home that cannot be written costs no more than the choice
        keep_taste(replace(read_taste(), language=lang))


def _run_words(run: RunRow) -> str:
    status = t(f"runs.status-{'running' if run.status == 'starting' else run.status}")
    facts = {"steps": run.steps, "step": run.step, "loss": short_number(run.loss, ".4f")}
    return t("plain.run", name=one_line(run.name), status=status, **facts)


def _bundle_words(bundle: BundleRow) -> str:
    facts = {"stage": bundle.stage, "method": bundle.method, "model": one_line(bundle.model, 60)}
    return t("plain.bundle", name=one_line(bundle.name), steps=bundle.steps, **facts)
