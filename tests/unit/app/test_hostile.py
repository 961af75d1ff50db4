"""Foreign text in every place that shows some: nothing in it that a terminal would obey reaches the terminal."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetui.draft import Draft
from finetui.drafts import begun, keep
from tests.tiny import CHATML, make_tiny_model
from tests.unit.app.endpoint import serving
from tests.unit.app.support import event, make_run, step, write_events
from tests.unit.app.window import window

pytestmark = pytest.mark.unit

OBEYED = (
    "\x1b]52;c;cGF5bG9hZA==\x07",
    "\x1b]0;payload\x1b\\",
    "\x1b]8;;http://payload\x07",
    "\x1bPpayload\x1b\\",
    "\x1b_payload\x1b\\",
    "\x9dpayload\x9c",
    "\x1b[31m",
    "\x1b[99;99H",
    "\x1b[?47h",
    "\x1b[2J",
    "\x1b[6n",
    "\x1bc",
    "\x9b31m",
    "\u202e\u2066",
    "\U000e0041",
    "\x08\x7f\x07\x00\x0b",
)
"""What must not come through; no screen of ours needs any of it."""
SHOWN = "[INST] [/x] [bold red]"
HOSTILE = SHOWN + "".join(OBEYED) + "end"
NAME = HOSTILE.replace("/", "").replace("\x00", "")
"""As a file can be called."""
_OURS = re.compile("\x1b\\[(?:[\\d;]*m|\\d+;\\d+H|\\?\\d+[hl]|\\?\\d+\\$p|[<>]\\d*u)|\x1b\\]22;[a-z-]*\x07|\r\n")
"""What the app itself tells the terminal: colours, places, modes, the shape of the pointer."""

ENTER, TAB, ESCAPE, F1, F8 = "\r", "\t", "\x1b", "\x1bOP", "\x1b[19~"


@dataclass(frozen=True)
class Place:
    """A place that shows foreign text: how it comes there, and the keys to it, each with what is seen after it."""

    put: Callable[[Path], object]
    way: Sequence[tuple[str, str]]


def rows(*texts: str, **more: Any) -> str:
    """A file of chats that say this."""
    turns = [{"role": role, "content": text} for text in texts for role in ("user", "assistant")]
    return json.dumps({"messages": turns, **more}) + "\n"


def data(name: str = "chats.jsonl", text: str = "hello") -> Path:
    """A file of such a name, with such words."""
    path = Path(name)
    path.write_text(rows(text) * 3, encoding="utf-8")
    return path


def model(folder: Path, template: str | None = CHATML, **config: Any) -> None:
    """A model folder, with this in its configuration."""
    make_tiny_model(folder, template=template)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def model_of(home: Path, name: str = "tiny", text: str = "hello", **options: Any) -> None:
    """Data and one model."""
    data(text=text)
    model(home / "models" / name, **options)


def licensed(home: Path) -> None:
    """A model whose card is foreign."""
    model_of(home, text=HOSTILE)
    (home / "models/tiny/README.md").write_text(f"---\nlicense: mit{HOSTILE}\n---\n{HOSTILE}")


def run(home: Path) -> None:
    """A run that says foreign things wherever it can."""
    made = make_run(home, f"20260101-000001-{NAME}", 5, status="failed", cause="error", detail=HOSTILE, bundle=HOSTILE)
    write_events(
        made,
        [
            event("checkpoint", 50.0, 5, path=f"checkpoints/{HOSTILE}"),
            event("warning", 51.0, 5, code="x", text=HOSTILE),
        ],
    )
    made.log.write_text(f"{HOSTILE}\nlast words\n")


def other_run(home: Path) -> None:
    """A run beside it."""
    make_run(home, "20260102-000001-own", 5)
    run(home)


def broken_run(home: Path) -> None:
    """A run that failed with foreign words, and figures of foreign kinds."""
    made = make_run(home, "20260101-000001-own", 5, status="failed", cause=HOSTILE, detail=HOSTILE)
    write_events(made, [{**step(6, 100), "batch_digest": HOSTILE}, event(HOSTILE, 60.0), event("warning", 61.0, 5)])


def bundle(home: Path) -> None:
    """A bundle with foreign words in its lock."""
    folder = home / "bundles" / f"{NAME}.bundle"
    folder.mkdir(parents=True)
    lock = json.loads((Path(__file__).parents[3] / "bundles/demo.bundle/lock.json").read_text(encoding="utf-8"))
    lock["model"]["name"] = HOSTILE
    (folder / "lock.json").write_text(json.dumps(lock))


def draft(home: Path) -> None:
    """A draft of foreign names."""
    home.mkdir(exist_ok=True)
    keep(begun().__class__(begun().path, Draft((NAME,), HOSTILE, HOSTILE), "data"))


def keys(home: Path) -> None:
    """A key file with actions that are none."""
    home.mkdir()
    quoted = json.dumps(HOSTILE, ensure_ascii=False).replace("\x7f", "")
    (home / "keys.toml").write_text(f"{quoted} = 'x'\n", encoding="utf-8")


def table(_: Path) -> None:
    """Columns of no known layout."""
    said = [{HOSTILE: "hoe gaat het", "b": "heel goed"}, {HOSTILE: "wat eet u", "b": "brood"}]
    Path("taal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))


def bad_model(home: Path) -> None:
    """A model whose configuration cannot be used."""
    model_of(home, model_type=HOSTILE, quantization_config={"quant_method": HOSTILE})


TO_DATA = [("n", "1 Data"), (ENTER, "usable")]
TO_MODEL = [*TO_DATA, (ENTER, "✓ Data")]
PLACES = {
    "a file": Place(lambda _: data(f"{NAME}.jsonl"), [("n", "[INST]"), (ENTER, "usable")]),
    "a file whose name is no text": Place(lambda _: data("[INST]\udcff\udc9b31m.jsonl"), [("n", "[INST]")]),
    "a folder": Place(lambda _: Path(NAME).mkdir(), [("n", "[INST]"), ("[INST]\t", "[INST]")]),
    "a file that is no data": Place(
        lambda _: Path(f"{NAME}.jsonl").write_bytes(b"\x89PNG"), [("n", "[INST]"), (ENTER, "error:")]
    ),
    "rows": Place(lambda _: data(text=HOSTILE), [*TO_DATA, ("", SHOWN)]),
    "roles": Place(
        lambda _: Path("chats.jsonl").write_text(
            json.dumps({"messages": [{"role": HOSTILE, "content": HOSTILE}], HOSTILE: HOSTILE}) + "\n"
        ),
        [("n", "1 Data"), (ENTER, "[INST]")],
    ),
    "columns": Place(table, [("n", "1 Data"), (ENTER, "Which column"), ("", "[INST]")]),
    "a model's folder": Place(lambda home: model_of(home, NAME), [*TO_MODEL, ("", "[INST]")]),
    "a model's architecture": Place(lambda home: model_of(home, architectures=[HOSTILE]), [*TO_MODEL, ("", SHOWN)]),
    "a model that cannot be used": Place(bad_model, [*TO_MODEL, ("", "[INST]")]),
    "a model's code": Place(
        lambda home: model_of(home, auto_map={"AutoModel": f"{NAME}.Own"}), [*TO_MODEL, (ENTER, "code of its own")]
    ),
    "a model's card, and rows as it sees them": Place(licensed, [*TO_MODEL, ("", "[INST]")]),
    "a model's template": Place(
        lambda home: model_of(home, template=CHATML.replace("<|im_start|>", SHOWN + "".join(OBEYED))),
        [*TO_MODEL, ("", "[INST]")],
    ),
    "a template that fails": Place(
        lambda home: model_of(home, template="{{ raise_exception(" + json.dumps(HOSTILE) + ") }}"),
        [*TO_MODEL, ("", "[INST]")],
    ),
    "a bundle": Place(bundle, [("", "[INST]"), (TAB + ENTER, "Run [INST]")]),
    "a bundle that is none": Place(bundle, [("", "[INST]"), (TAB + ENTER, "Run [INST]"), (ENTER, "cannot be done")]),
    "a draft": Place(draft, [("n", "A draft is waiting"), ("", "[INST]"), (ENTER, "error:")]),
    "a run, its checkpoints and log": Place(
        run,
        [
            ("", "000001-[INST]"),
            (ENTER, "1 facts"),
            ("2", "step 5"),
            ("3", "last words"),
            ("u", "Go on with"),
            (ESCAPE, "log"),
            (F1, "Help"),
        ],
    ),
    "a run's failure": Place(broken_run, [("", "own"), (ENTER, "[INST]")]),
    "another run beside one": Place(
        other_run, [("", "own"), (ENTER, "1 facts"), ("o", "[INST]"), (ENTER, "━━ 20260101")]
    ),
    "a chat with a run": Place(run, [("", "[INST]"), ("c", "[INST]")]),
    "keys": Place(keys, [("", "[INST]")]),
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and caches without models."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "no-cache"))
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_nothing_that_a_terminal_obeys_comes_through(home: Path, desk: Path, place: str) -> None:
    PLACES[place].put(home)
    assert_harmless(PLACES[place].way)


def assert_harmless(way: Sequence[tuple[str, str]]) -> None:
    """Go this way in a window, and look at every byte that has come."""
    with window(rows=40, columns=120) as shown:
        shown.read_until("F10 quit")
        for pressed, words in way:
            shown.type(pressed)
            shown.read_until(words)
        os.kill(shown.pid, signal.SIGTERM)  # where a question is open no key leaves
        assert shown.end() == 128 + signal.SIGTERM, shown.text
    drawn = shown.bytes.decode()
    assert [obeyed for obeyed in OBEYED if obeyed in drawn] == []
    assert {each for each in _OURS.sub("", drawn) if not each.isprintable()} <= {"\n"}


@pytest.fixture
def endpoint() -> Iterator[Callable[..., str]]:
    """Endpoints, by what they do."""
    with ExitStack() as stack:
        yield lambda **does: stack.enter_context(serving(**does)).address


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ({"says": [HOSTILE[at : at + 5] for at in range(0, len(HOSTILE), 5)]}, "end"),
        ({"status": 500, "error": HOSTILE}, "[INST]"),
        ({"reason": HOSTILE}, "[INST]"),
        ({"raw": f"data: {HOSTILE}\n\n".encode()}, "F9"),
    ],
    ids=["answers", "errors", "ends", "no events"],
)
def test_what_an_endpoint_says_cannot_drive_the_terminal(
    home: Path, desk: Path, endpoint: Callable[..., str], does: dict[str, Any], words: str
) -> None:
    address = endpoint(**does)
    way = [("c", "Who answers"), (f"{address} parrot" + ENTER, "parrot"), (f"Hello{ENTER}", words)]
    assert_harmless([*way, (F8, words)])
