"""Home: this machine, the last runs, the bundles; and what to press where there is nothing yet."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList

from finetui.app.home_facts import BundleRow, MachineFacts, RunRow, bundles, last_runs, machine_facts, machine_lines
from finetui.app.registry import SCREENS, bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.room import Room
from finetui.app.themes import MUTED
from finetui.app.widgets.choices import Choices
from finetui.app.widgets.lines import Lines
from finetui.app.widgets.spoken import Words
from finetui.core.messages import t
from finetui.core.text import one_line

_LIVE = frozenset({"queued", "starting", "running"})
_STYLES = {"running": "$success", "starting": "$success", "failed": "$error", "interrupted": "$warning"}
_AGAIN_S = 2.0
_SHORTEST_NAME = 20
"""Cells of a name that begins with a date and a time."""


class Home(Room):
    """The first screen."""

    NAME = "home"
    BINDINGS: ClassVar[list[BindingType]] = bindings("home")
    DEFAULT_CSS = """
    Home #machine { padding: 0 1; margin: 1 0; }
    Home .heading { color: $primary; text-style: bold; padding: 0 1; }
    Home #runs { height: auto; max-height: 60%; }
    Home #no-runs, Home #begin { padding: 0 1; display: none; }
    Home #bundles-heading { margin-top: 1; display: none; }
    Home #bundles { height: 1fr; display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._machine: MachineFacts | None = None
        self._runs: list[RunRow] | None = None
        self._bundles: list[BundleRow] | None = None

    def body(self) -> ComposeResult:
        """Facts, runs, bundles."""
        yield Lines(id="machine")
        yield Words("app.home-runs", classes="heading")
        yield Choices(id="runs")
        yield Words("app.home-no-runs", id="no-runs")
        yield Words("app.home-begin", id="begin")
        yield Words("app.home-bundles", classes="heading", id="bundles-heading")
        yield Choices(id="bundles")

    def on_mount(self) -> None:
        """Look around once the first picture stands; live runs are looked at again."""
        super().on_mount()
        self.query_one("#runs").focus()
        self.call_after_refresh(self.action_refresh)
        self.call_after_refresh(self._fetch_ahead)
        self.set_interval(_AGAIN_S, self._again)

    def _fetch_ahead(self) -> None:
        """Load the wizard in the background: its key is answered at once then, on a busy machine too."""
        threading.Thread(target=import_module, args=(SCREENS["wizard"].partition(":")[0],), daemon=True).start()

    def on_screen_resume(self) -> None:
        """Another screen may have changed what there is."""
        if self._runs is not None:
            self.action_refresh()

    def action_refresh(self) -> None:
        """Read everything again."""
        self._look_at_files()
        self.work(machine_facts, self._show_machine)

    def _again(self) -> None:
        if self.is_current and any(run.status in _LIVE for run in self._runs or ()):
            self._look_at_files()

    def _look_at_files(self) -> None:
        self.work(lambda: (last_runs(), bundles()), lambda found: self._show_files(*found))

    def _show_files(self, runs: list[RunRow], found: list[BundleRow]) -> None:
        self._runs, self._bundles = runs, found
        self.speak()

    def _show_machine(self, machine: MachineFacts) -> None:
        self._machine = machine
        self.speak()

    def on_resize(self) -> None:
        """Names get what room there is."""
        self.speak()

    def speak(self) -> None:
        """Everything that is known, in the language in force."""
        self.query_one("#machine", Lines).show(
            machine_lines(self._machine) if self._machine else [t("app.home-looking")]
        )
        width = self.size.width - 2
        runs = self._runs or []
        self.query_one("#runs", Choices).offer([(str(run.folder), _run_line(run, width)) for run in runs])
        none = self._runs is not None and not runs
        self.query_one("#runs").display = not none
        for part in ("#no-runs", "#begin"):
            self.query_one(part).display = none
        found = self._bundles or []
        self.query_one("#bundles", Choices).offer([(str(each.folder), _bundle_line(each, width)) for each in found])
        for part in ("#bundles", "#bundles-heading"):
            self.query_one(part).display = bool(found)

    def action_chat(self) -> None:
        """Talk to the highlighted run; where none is, one chooses."""
        runs = self.query_one("#runs", Choices)
        self.finetui.open("chat", *([runs.chosen] if runs.has_focus and runs.chosen else []))

    @on(OptionList.OptionSelected, "#runs")
    def _open_run(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self.finetui.open("monitor", Path(event.option_id))

    @on(OptionList.OptionSelected, "#bundles")
    def _ask_to_run(self, event: OptionList.OptionSelected) -> None:
        bundle = next((each for each in self._bundles or () if str(each.folder) == event.option_id), None)
        if bundle is None:
            return
        facts = {"steps": bundle.steps, "model": bundle.model, "folder": str(bundle.folder)}
        answers = [(way, t(f"app.run-{way}")) for way in ("yes", "wait", "not")]
        question = Ask(t("app.title-run", name=bundle.name), t("app.run-ask", **facts), answers)
        self.app.push_screen(question, lambda way: self._run_bundle(bundle.folder, way))

    def _run_bundle(self, folder: Path, way: str | None) -> None:
        from finetui.runs.launch import start

        if way in ("yes", "wait"):
            self.app.notify(t("app.resume-checks"), markup=False)
            self.work(lambda: start(folder, wait=way == "wait"), lambda run: self.finetui.open("monitor", run.path))


def _run_line(run: RunRow, width: int) -> Content:
    from finetui.runs.figures import short_number, sparkline

    status = t(f"runs.status-{'running' if run.status == 'starting' else run.status}")
    figures = f"{run.step}/{run.steps}".rjust(11) + short_number(run.loss, ".4f").rjust(9)
    room = min(44, width - 12 - cell_len(figures) - 16)
    spark = sparkline(run.losses, 14)
    if room < _SHORTEST_NAME:  # a run that cannot be told from another is worth no figures
        room, figures, spark = max(12, width - 12), "", ""
    return Content.assemble(
        _fitted(one_line(run.name), room),
        "  ",
        (set_cell_size(status, 10), _STYLES.get(run.status, MUTED)),
        figures,
        "  ",
        (spark, "$primary"),
    )


def _fitted(text: str, room: int) -> str:
    """The text in exactly so many cells; `…` says that it went on."""
    return set_cell_size(text if cell_len(text) <= room else set_cell_size(text, room - 1) + "…", room)


def _bundle_line(bundle: BundleRow, width: int) -> Content:
    room = max(12, min(44, width - 36))
    what = f"{bundle.stage} {bundle.method}"
    return Content.assemble(
        _fitted(one_line(bundle.name), room), "  ", (what.ljust(14), MUTED), one_line(bundle.model, 40)
    )
