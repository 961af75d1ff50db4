"""What every step of the wizard shares: its draft, work in the background of which only the newest counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from finetui.app.widgets.spoken import Spoken
from finetui.core.errors import FinetuiError
from finetui.core.messages import t
from finetui.steps import attempt

if TYPE_CHECKING:
    from finetui.app.screens.wizard.frame import Wizard
    from finetui.draft import Draft

Found = TypeVar("Found")


class Step(Vertical, Spoken):
    """A step; a subclass gives NAME, `enter`, `speak`, and `missing` where one may not simply go on."""

    NAME: ClassVar[str]
    """Its key: `wizard.step-NAME` is its title, `app.help-step-NAME` what F1 says of it."""
    DEFAULT_CSS = "Step { height: 1fr; }"

    @dataclass
    class Stage(Message):
        """How far work in the background is."""

        text: str

    def __init__(self) -> None:
        super().__init__(id=f"step-{self.NAME}")
        self._begun: Counter[str] = Counter()

    def enter(self) -> None:
        """The step is shown, again or for the first time."""
        raise NotImplementedError

    def missing(self) -> str | None:
        """The code of the message that says what must be chosen before one can go on; None where nothing is."""
        return None

    def missing_facts(self) -> Mapping[str, object]:
        """What that message is filled in with."""
        return {}

    def ask(self) -> bool:
        """Ask what is to be done about an obstacle before one goes on; False where there is none."""
        return False

    def close(self) -> bool:
        """Escape: close what is open within the step; False where that is nothing."""
        return False

    def line(self) -> Input | None:
        """Where what is typed belongs, whatever has the focus; None where nothing is typed."""
        return None

    @property
    def wizard(self) -> Wizard:
        """The screen that it is a step of."""
        from finetui.app.screens.wizard.frame import Wizard

        assert isinstance(self.screen, Wizard)
        return self.screen

    @property
    def draft(self) -> Draft:
        """The choices so far."""
        return self.wizard.draft

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Pass on how far work in the background is; from any thread."""
        text, total = t(f"models.stage-{facts['stage']}"), facts.get("total")
        if total:
            text = t("models.stage-line", text=text, percent=int(100 * facts["done"] / total))
        self.post_message(self.Stage(text))

    def newest(self, kind: str, what: Callable[[], Found], then: Callable[[Found | FinetuiError], None]) -> None:
        """Do something in the background; `then` gets what it gave or why it could not, unless it was begun again."""
        self._begun[kind] += 1
        number = self._begun[kind]
        self.wizard.work(lambda: attempt(what), lambda found: then(found) if self._begun[kind] == number else None)

    def is_newest(self, kind: str) -> Callable[[], bool]:
        """Tells, from any thread, whether what is about to be begun is still wanted."""
        number = self._begun[kind] + 1
        return lambda: self._begun[kind] == number

    def drop(self, kind: str) -> None:
        """Let what was begun come to nothing."""
        self._begun[kind] += 1
