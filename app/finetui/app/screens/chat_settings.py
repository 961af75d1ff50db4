"""The settings of a chat as a form: the system prompt, and how tokens are chosen."""

from __future__ import annotations

from dataclasses import asdict

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from finetui.app.screens.pane import Pane
from finetui.app.widgets.explained import Explained
from finetui.app.widgets.line import Line
from finetui.app.widgets.typed import Typed
from finetui.chat.settings import SETTINGS, Sampling, Setting, checked
from finetui.core.messages import t


class Value(Line, Explained):
    """Where one of the settings is typed."""

    def __init__(self, setting: Setting, value: float) -> None:
        super().__init__(str(value), id=setting.name)
        self._setting = setting

    def explain(self) -> str:
        """What it does, and what it takes."""
        return f"{t(_label(self._setting))}\n{t(self._setting.help_code)}\n{self._setting.expected}"


class Settings(Pane[tuple[str, Sampling]]):
    """The system prompt and the settings; None for Escape. Enter takes them where all are in range."""

    DEFAULT_CSS = """
    Settings .row { height: 1; margin-top: 1; }
    Settings .row > Static { width: 22; }
    Settings .row > Input { width: 1fr; }
    Settings .help { color: $text-muted; height: auto; }
    Settings .wrong { color: $error; }
    """

    def __init__(self, system: str, sampling: Sampling) -> None:
        super().__init__()
        self._system = system
        self._values: dict[str, float] = asdict(sampling)
        self._wrong: set[str] = set()

    def heading(self) -> str:
        """What the frame is called."""
        return t("chat.title-settings")

    def inside(self) -> ComposeResult:
        """A row for each."""
        yield Static(t("chat.label-system"), markup=False)
        yield Typed(self._system, hint="chat.no-system", id="chat-system")
        for each in SETTINGS:
            with Horizontal(classes="row"):
                yield Static(t(_label(each)), markup=False)
                yield Value(each, self._values[each.name])
            yield Static(_help(each), markup=False, classes="help", id=f"help-{each.name}")

    def on_mount(self) -> None:
        """Begin with the words."""
        self.query_one(Typed).focus()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        each = next(each for each in SETTINGS if each.name == event.input.id)
        value = each.read(event.value)
        wrong = value is None
        if value is not None:
            self._values[each.name] = value
        (self._wrong.add if wrong else self._wrong.discard)(each.name)
        help = self.query_one(f"#help-{each.name}", Static)
        help.set_class(wrong, "wrong")
        help.update(Content(t("chat.expected", expected=each.expected)) if wrong else _help(each))

    @on(Input.Submitted)
    @on(Typed.Sent)
    def _entered(self) -> None:
        if not self._wrong:
            self.dismiss((self.query_one(Typed).text.strip(), checked(self._values)))


def _label(setting: Setting) -> str:
    return "chat.label-" + setting.name.replace("_", "-")


def _help(setting: Setting) -> Content:
    return Content(t(setting.help_code))
