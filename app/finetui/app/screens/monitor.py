"""The monitor: one run, live or ended, as its files tell; others beside it in the chart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.widgets import ContentSwitcher, Log, OptionList

from finetui.app.merges import Merge, can_merge, is_merged, merged_folder, size_mb
from finetui.app.registry import SCREENS, bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.room import Room
from finetui.app.themes import MUTED
from finetui.app.watching import LogTail, Snapshot, Watch
from finetui.app.widgets.chart import LossChart
from finetui.app.widgets.choices import Choices
from finetui.app.widgets.curves import COLOURS, Curve
from finetui.app.widgets.facts import Facts, Row, bar
from finetui.app.widgets.lines import Lines
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.runs.figures import short_number
from finetui.runs.folder import RunFolder, list_runs
from finetui.runs.state import FINISHED, STARTING

if TYPE_CHECKING:
    from finetui.models.merged import Merged

POLL_S = 0.5
"""The files are read and the picture is drawn at most so often."""
MOST_S = 2.0
"""And at least so often, however much there is to read."""
_SHARE = 0.01
"""Of one core that reading may take."""
PANELS = ("facts", "checkpoints", "log")
_LOG_LINES = 5000
_BAR = 8
_LAST = ("cpu", "time")
"""Facts that can do without a place on a low screen."""


@dataclass
class Seen(Message):
    """What the watching thread has seen."""

    snapshot: Snapshot
    others: tuple[Curve, ...]
    log: str
    """What was added to the log."""


@dataclass
class Lost(Message):
    """The run can no longer be read."""

    error: Exception


class Monitor(Room):
    """Follows a run by reading its files alone."""

    NAME = "monitor"
    BINDINGS: ClassVar[list[BindingType]] = bindings("monitor")
    DEFAULT_CSS = """
    Monitor { overflow: hidden; }
    Monitor #panels { height: 1; background: $panel; }
    Monitor ContentSwitcher { height: auto; max-height: 60%; }
    Monitor #facts { height: auto; }
    Monitor #checkpoints { height: auto; min-height: 6; }
    Monitor #log { height: 12; background: $background; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._run = RunFolder(folder)
        self._seen: Snapshot | None = None
        self._others: dict[str, Watch] = {}
        self._other_curves: tuple[Curve, ...] = ()
        self._has_log = False
        self._merge_said: str | None = None
        self._left = threading.Event()
        self._look_again = threading.Event()

    def body(self) -> ComposeResult:
        """The chart, and below it one of three panels."""
        yield LossChart(ascii_only=self.finetui.ascii_only, id="chart")
        yield Lines(id="panels")
        with ContentSwitcher(initial="facts"):
            with VerticalScroll(id="facts"):
                yield Facts(id="fact-rows")
            yield Choices(id="checkpoints")
            yield Log(max_lines=_LOG_LINES, id="log")

    def on_mount(self) -> None:
        """Begin to watch."""
        super().on_mount()
        threading.Thread(target=self._watch, daemon=True).start()
        self.set_interval(POLL_S, self._tell_merge)

    def on_unmount(self) -> None:
        """Watch no longer."""
        self._left.set()
        self._look_again.set()

    # ---- watching

    def _watch(self) -> None:
        """Read the files and tell what is new in them, until the screen is left."""
        watch, log = Watch(self._run.path), LogTail(self._run.log)
        before: tuple[Curve, ...] = ()
        snapshot: Snapshot | None = None
        try:
            while not self._left.is_set():
                began = time.thread_time()
                again = self._look_again.is_set()
                self._look_again.clear()
                new = watch.poll(again=again)
                others = tuple(
                    seen.curve for each in list(self._others.values()) if (seen := each.poll(again=True)) is not None
                )
                snapshot, added = new or snapshot, log.read()
                if snapshot is not None and (new is not None or added or _differ(others, before)):
                    self.post_message(Seen(snapshot, others, added))
                before = others
                cost = time.thread_time() - began
                if watch.is_whole:
                    self._look_again.wait(min(MOST_S, max(POLL_S, cost / _SHARE)))
        except Exception as error:
            self.post_message(Lost(error))

    @on(Seen)
    def _show(self, seen: Seen) -> None:
        keys_change = self._seen is None or self._seen.status != seen.snapshot.status
        self._seen, self._other_curves = seen.snapshot, seen.others
        self._has_log = self._has_log or bool(seen.log)
        with self.app.batch_update():
            self.speak()
            self.show_title()
            if seen.log:
                self.query_one(Log).write(seen.log)
        if keys_change:
            self.refresh_bindings()

    @on(Lost)
    def _lost(self, lost: Lost) -> None:
        self.finetui.fell(lost.error)

    # ---- what is shown

    def title_facts(self) -> str:
        """The run and what it is doing."""
        if self._seen is None:
            return one_line(self._run.name)
        seen = self._seen
        status = t(f"runs.status-{'running' if seen.status == STARTING else seen.status}")
        doing = f" · {t(f'curve.phase-{seen.phase}')}" if seen.is_live else ""
        merging = f" · {self._merge_said}" if self._merge_said else ""
        return f"{status}{doing}{merging}  {seen.name}"  # a narrow screen may cut the name

    def speak(self) -> None:
        """All of the last snapshot."""
        self.query_one("#panels", Lines).show([self._panel_names()])
        if self._seen is None:
            return
        self.query_one(LossChart).draw([self._seen.curve, *self._other_curves])
        self.query_one("#fact-rows", Facts).tell([*_rows(self._seen), *self._merged_row()])
        self.query_one("#checkpoints", Choices).offer(list(_checkpoints(self._seen)))

    def speak_all(self) -> None:
        """Facts are worded where they are gathered: have them gathered again."""
        super().speak_all()
        self._look_again.set()

    def _merged_row(self) -> Iterator[Row]:
        if is_merged(self._run):
            yield t("app.monitor-merged"), one_line(str(merged_folder(self._run))), ""

    def _tell_merge(self) -> None:
        """Say how far the merge is, begun here or before one came back."""
        merge = self.finetui.merges.get(self._run.path)
        said = merge.stage() if merge else None
        if said != self._merge_said:
            self._merge_said = said
            self.show_title()
            self.speak()
            self.refresh_bindings()

    def _panel_names(self) -> Content:
        current = self.query_one(ContentSwitcher).current
        parts = [
            Content.assemble(
                (f" {number} ", "bold $accent"), (f"{t(f'app.key-{name}')} ", "bold" if name == current else "")
            )
            .stylize(Style.from_meta({"@click": f"screen.panel('{name}')"}))
            .stylize("reverse" if name == current else "")
            for number, name in enumerate(PANELS, 1)
        ]
        is_logarithmic = self.query_one(LossChart).logarithmic
        said = [*([t("app.monitor-log-scale")] if is_logarithmic else []), *self._why_empty(current)]
        return Content.assemble(*parts, (f"  {' · '.join(said)}", MUTED))

    def _why_empty(self, panel: str | None) -> Iterator[str]:
        """What is to be said of a panel in which there is nothing yet."""
        if panel == "checkpoints" and not (self._seen and self._seen.checkpoints):
            yield t("app.monitor-no-checkpoint")
        if panel == "log" and not self._has_log:
            yield t("app.monitor-no-log")

    def action_panel(self, name: str) -> None:
        """Show another panel below the chart."""
        self.query_one(ContentSwitcher).current = name
        self.query_one(f"#{name}").focus()
        self.speak()

    def action_scale(self) -> None:
        """Linear or logarithmic."""
        self.query_one(LossChart).toggle_log()
        self.speak()

    # ---- what can be done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What lives can be stopped, what has ended before its time can go on."""
        if action == "stop":
            return self._seen is not None and self._seen.is_live
        if action == "resume":
            return self._seen is not None and not self._seen.is_live and self._seen.status != FINISHED
        if action == "merge":
            idle = self._run.path not in self.finetui.merges
            return idle and self._seen is not None and can_merge(self._run, self._seen.status)
        if action == "talk":
            return "chat" in SCREENS
        return super().check_action(action, parameters)

    def action_stop(self) -> None:
        """Ask how, then stop it."""
        answers = [(way, t(f"app.stop-{way}")) for way in ("save", "now", "not")]
        self.app.push_screen(Ask(t("app.title-stop"), t("app.stop-ask", run=self._run.name), answers), self._stop)

    def _stop(self, way: str | None) -> None:
        from finetui.runs.stopping import GRACE_S, stop

        if way not in ("save", "now"):
            return
        self.app.notify(
            t("runs.stopping-now" if way == "now" else "runs.stopping", run=self._run.name, seconds=round(GRACE_S)),
            markup=False,
        )
        self.work(
            lambda: stop(self._run, now=way == "now"),
            lambda done: self.app.notify(t("runs.stop-left", processes=done.processes, left=done.left), markup=False),
        )

    def action_resume(self) -> None:
        """Ask, then go on from the newest checkpoint."""
        newest = self._seen.checkpoints[-1].step if self._seen and self._seen.checkpoints else 0
        answers = [(way, t(f"app.resume-{way}")) for way in ("yes", "not")]
        text = t("app.resume-ask", run=self._run.name, step=newest)
        self.app.push_screen(Ask(t("app.title-resume"), text, answers), self._resume)

    def _resume(self, way: str | None) -> None:
        if way == "yes":
            self.app.notify(t("app.resume-checks"), markup=False)
            self.work(self._go_on, lambda _: self._look_again.set())

    def _go_on(self) -> None:
        from finetui.runs.launch import launch
        from finetui.runs.resume import prepare_resume

        launch(prepare_resume(self._run))

    def action_merge(self) -> None:
        """Ask, then merge the adapter into its base."""
        mb = size_mb(self._run)
        said = [t("app.merge-ask", out=str(merged_folder(self._run)))]
        said += [t("app.merge-disk", mb=mb)] if mb else []
        answers = [(way, t(f"app.merge-{way}")) for way in ("yes", "not")]
        text = "\n".join([*said, t("app.merge-leaving")])
        self.app.push_screen(Ask(t("app.title-merge"), text, answers), self._merge)

    def _merge(self, way: str | None) -> None:
        app, folder = self.finetui, self._run.path
        if way != "yes" or folder in app.merges:
            return
        merge = app.merges[folder] = Merge(self._run)
        self._tell_merge()

        def good(merged: Merged) -> None:
            del app.merges[folder]
            app.tell_merged(merged, folder)

        def fell(error: Exception) -> None:
            del app.merges[folder]
            app.fell(error)

        app.work(merge.work, good, fell)  # not the screen's own work: it is told wherever one is by then

    def action_talk(self) -> None:
        """Chat with the newest checkpoint, while training goes on."""
        if self._seen and not self._seen.checkpoints and self._seen.status != FINISHED:
            self.app.notify(" ".join(_no_checkpoint(self._seen)), severity="warning", markup=False)
            return
        newest = self._seen.checkpoints[-1].path if self._seen and self._seen.checkpoints else None
        self.finetui.open("chat", str(self._run.path / newest) if newest else str(self._run.path))

    @on(OptionList.OptionSelected, "#checkpoints")
    def _talk_to(self, event: OptionList.OptionSelected) -> None:
        if "chat" in SCREENS and event.option_id:
            self.finetui.open("chat", str(self._run.path / event.option_id))

    def action_overlay(self) -> None:
        """Choose another run to be drawn beside this one, or one no longer to be."""
        runs = [run for run in reversed(list_runs()) if run.path != self._run.path]
        answers = [
            (str(run.path), f"{'●' if str(run.path) in self._others else ' '} {one_line(run.name)}") for run in runs
        ]
        self.app.push_screen(Ask(t("app.title-overlay"), "" if runs else t("app.overlay-none"), answers), self._overlay)

    def _overlay(self, folder: str | None) -> None:
        if folder is None:
            return
        if folder in self._others:
            del self._others[folder]
        elif len(self._others) < len(COLOURS) - 1:
            self._others[folder] = Watch(Path(folder))
        self._look_again.set()


def _differ(now: tuple[Curve, ...], before: tuple[Curve, ...]) -> bool:
    return [(curve.name, len(curve.steps)) for curve in now] != [(curve.name, len(curve.steps)) for curve in before]


def _rows(seen: Snapshot) -> Iterator[Row]:
    """The facts with labels, a bar before those of each GPU, and how it ended; what looks odd not last."""
    meters = iter(seen.gpus)
    for code, text, style in sorted(seen.facts, key=lambda fact: fact[0] in _LAST):
        shown = f"{_meters(next(meters, {}))}  {text}" if code == "gpu" else text
        yield t(f"watch.{code}"), shown, style
    if seen.end:
        yield t("app.monitor-end"), seen.end, ""


def _no_checkpoint(seen: Snapshot) -> Iterator[str]:
    """That there is nobody to talk to so far, and when there will be."""
    yield t("app.talk-none")
    if seen.is_live:
        if seen.next_save is not None:
            yield t("app.talk-next", step=seen.next_save)
        yield t("app.talk-stop")


def _meters(gpu: dict[str, Any]) -> str:
    """How busy it is, and how full."""
    use, held, total = gpu.get("use_percent"), gpu.get("memory_bytes"), gpu.get("total_bytes")
    shares = [use / 100 if use is not None else None, held / total if held is not None and total else None]
    return " ".join(bar(share, _BAR) for share in shares if share is not None)


def _checkpoints(seen: Snapshot) -> Iterator[tuple[str, Content]]:
    """Newest first."""
    for saved in reversed(seen.checkpoints):
        loss = seen.evaluated.get(saved.step)
        said = "" if loss is None else t("app.monitor-evaluated", loss=short_number(loss, ".4f"))
        star = "★ " if saved.step == seen.best_step else "  "
        text = t("app.monitor-checkpoint", step=saved.step, path=one_line(saved.path))
        yield saved.path, Content.assemble((star, "$warning"), text, "  ", (said, MUTED))
