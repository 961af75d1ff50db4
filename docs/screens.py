"""Draws the screens of the READMEs: the app is played from the data to a chat, and what it trains is really trained.

    python docs/screens.py [HOME]    # a place where `finetui demo` has run; ~/.finetui unless given

Writes docs/screens/*.svg, and prints every screen as text in both languages; takes as long as the training of the demo.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.cells import cell_len  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from finetui.app.shell import FinetuiApp  # noqa: E402
from finetui.app.widgets.typed import Typed  # noqa: E402
from finetui.demo.scoring import DATA  # noqa: E402
from tests.unit.app.support import NARROW, picture, settled  # noqa: E402

OUT = ROOT / "docs" / "screens"
CELL = 12.2
"""Width of a character in the pictures."""
IN_CHINESE = ("chat",)
"""Screens that are drawn in Chinese too."""
FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', monospace"


def main() -> None:
    """Play in a home of its own, which is gone afterwards."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "~/.finetui").expanduser().resolve()
    with tempfile.TemporaryDirectory() as desk:
        os.chdir(desk)
        home = Path(".finetui")
        for part in ("runs", "bundles"):
            shutil.copytree(demo / part, home / part, symlinks=True)
        (home / "models").symlink_to(demo / "models")
        shutil.copy(DATA, "chats.jsonl")
        os.environ.update(HOME=desk, FINETUI_HOME=str(home), TERM="xterm-256color")
        asyncio.run(journey())


async def journey() -> None:
    """Data, model, recipe, review, launch; home and monitor while it trains; a chat with base and tuned."""
    async with FinetuiApp(lang="en").run_test(size=NARROW) as pilot:
        await settled(pilot)
        await press(pilot, "n", "enter")
        await draw(pilot, "data")
        await press(pilot, "enter", "enter")
        await draw(pilot, "recipe")
        await press(pilot, "enter")
        await draw(pilot, "review")
        await press(pilot, "enter", "enter")
        await seen(pilot, lambda shown: re.search(r"\b(3\d|4\d) of 60", shown))
        await draw(pilot, "monitor")
        await press(pilot, "escape")
        await draw(pilot, "home")
        await press(pilot, "home", "enter")
        await seen(pilot, lambda shown: "finished" in shown)
        await press(pilot, "c", "f6", *"base ", "enter")
        await ask(pilot, "Could you tell me what your name is?", "I'd like 5 lamps.")
        keep(pilot, "chat", "en")
        await press(pilot, "ctrl+n", "f3")
        await ask(pilot, "请问 Moonbay 在哪个城市？")
        keep(pilot, "chat", "zh")


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys, each followed by all that it sets off."""
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def ask(pilot: Pilot[Any], *questions: str) -> None:
    """Ask, and wait until both have answered."""
    for number, question in enumerate(questions, 1):
        pilot.app.screen.query_one(Typed).insert(question)
        await press(pilot, "enter")
        await seen(pilot, lambda shown, answers=2 * number: len(re.findall("tokens/s|每秒", shown)) >= answers)


async def seen(pilot: Pilot[Any], there: Callable[[str], object]) -> None:
    """Wait until the screen shows it; fail after a time that no machine needs."""
    deadline = time.monotonic() + 3600
    while not there(shown := picture(pilot.app)):
        assert time.monotonic() < deadline, shown
        await asyncio.sleep(0.2)
        await settled(pilot)


async def draw(pilot: Pilot[Any], name: str) -> None:
    """Keep the screen in both languages."""
    for lang in ("en", "zh"):
        keep(pilot, name, lang)
        await press(pilot, "f3")


def keep(pilot: Pilot[Any], name: str, lang: str) -> None:
    """Write the screen as a picture, and print it as text."""
    print(f"==== {name} {lang}", picture(pilot.app), sep="\n", flush=True)
    if lang == "en" or name in IN_CHINESE:
        title = "finetui" if lang == "en" else "finetui --lang zh"
        svg = alone(pilot.app.export_screenshot(title=title, simplify=True))
        (OUT / f"{name}{'' if lang == 'en' else '.' + lang}.svg").write_text(svg, encoding="utf-8")


def alone(svg: str) -> str:
    """The picture without fonts of the net, and with Chinese characters two cells wide, which Rich forgets."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}").replace("arial", "sans-serif")
    svg = re.sub(r'textLength="[^"]*"([^>]*>)([^<]*)', _as_wide_as_its_cells, svg)
    return re.sub(r"^\s+|\s+$", "", svg, flags=re.MULTILINE) + "\n"


def _as_wide_as_its_cells(found: re.Match[str]) -> str:
    length = CELL * cell_len(html.unescape(found[2]))
    return f'textLength="{length:g}"{found[1]}{found[2]}'


if __name__ == "__main__":
    main()
