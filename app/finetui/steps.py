"""What the steps of a wizard find out and do, whoever asks and draws: data, model, recipe, review, launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from finetui.core import home
from finetui.core.errors import FinetuiError, Problem
from finetui.core.figures import gib
from finetui.core.files import write_text
from finetui.core.glossary import as_toml
from finetui.core.jobs import Progress
from finetui.core.knobs import Value, knobs
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.draft import Draft
from finetui.offers import ModelOffer, RecipeOffer, best_first, licence, recipe, recipes

if TYPE_CHECKING:
    from finetui.data import Inspection, Record, Rejected
    from finetui.data.reader import Progress as HowFar
    from finetui.recipes.resolve import Plan, Tokens
    from finetui.runs.folder import RunFolder

Found = TypeVar("Found")

NAMES = ("data", "model", "recipe", "review", "launch")
"""The steps in their order; `wizard.step-NAME` is the title of each, `app.help-step-NAME` explains it."""
PARTS = ("user", "assistant", "system", "history", "thinking", "messages", "text", "chosen", "rejected", "label")
"""What a column can be said to be; other tools' tags are left to `--map`."""
_ROWS = 3


def attempt(what: Callable[[], Found]) -> Found | FinetuiError:
    """What it gives, or why it cannot."""
    try:
        return what()
    except FinetuiError as error:
        return error
    except OSError as error:
        where = one_line(str(error.filename)) if error.filename else "–"
        return FinetuiError(Problem("app.system", {"error": error.strerror or str(error)}, where))


# ---- data


@dataclass(frozen=True)
class Seen:
    """What is known of the chosen data."""

    inspection: Inspection
    rows: Sequence[Record | Rejected]
    """The first few."""
    whole: bool
    """Whether all rows have been read."""
    cells: Mapping[str, str] = field(default_factory=dict)
    """What stands in each column of the first row, where a person has to say which column is what."""


def look_into(draft: Draft) -> Seen:
    """Recognise the data by a sample of its rows.

    Raises FinetuiError where it cannot be read.
    """
    from finetui.data import Inspection
    from finetui.data.lookup import find_rows
    from finetui.data.reader import open_input

    inspection = Inspection(open_input(draft.data, draft.reading, draft.evaluation))
    rows = [] if inspection.refusals() else find_rows(draft.data, 1, _ROWS, draft.reading)
    asks = draft.reading.mapping or unmapped(inspection)
    return Seen(inspection, rows, whole=False, cells=_first_cells(inspection) if asks else {})


def _first_cells(inspection: Inspection) -> dict[str, str]:
    from finetui.data.files.sample import take

    first = next((row for row in take(inspection.input.files[0].file).values if isinstance(row, dict)), {})
    return {one_line(column, 40): one_line(str(cell), 60) for column, cell in first.items()}


def read_through(draft: Draft, seen: Seen, on_progress: HowFar | None = None) -> Seen:
    """Read every row of it."""
    from finetui.data import inspect

    return Seen(inspect(draft.data, draft.reading, on_progress=on_progress), seen.rows, whole=True, cells=seen.cells)


def unmapped(inspection: Inspection) -> tuple[str, ...]:
    """The columns of no known layout that can be said what they are; empty where all is known."""
    told = ("sources.not-mapped", "data.unknown-columns")
    if any(problem.code in told for problem in inspection.refusals()):
        return tuple(inspection.input.files[0].detection.columns)
    return ()


def suggestion(inspection: Inspection) -> str | None:
    """What the columns probably are, as `--map` takes it."""
    return inspection.input.files[0].detection.suggestion or None


def choosing(draft: Draft) -> Iterator[tuple[str, str]]:
    """The settings that choose rows, and what each is."""
    said = draft.set_values()
    for name, knob in knobs().items():
        if knob.locked == "data":
            yield name, said.get(name, "" if knob.default is None else written(knob.default))


# ---- model


def model_facts(offer: ModelOffer, template: str) -> Iterator[tuple[str, str, bool]]:
    """A label, a fact, and whether it wants attention; `template` is what is known of its chat template."""
    outline = offer.outline
    if outline is None:
        yield "", t("wizard.model-made"), False
        return
    weight = "" if outline.weight_bytes is None else f" · {gib(outline.weight_bytes)}"
    what = f"{one_line(outline.architecture)} · {model_size(outline.parameters)} · {outline.dtype}{weight}"
    yield t("wizard.fact-architecture"), what, False
    if outline.max_position_embeddings:
        yield t("wizard.fact-context"), t("wizard.tokens", count=f"{outline.max_position_embeddings:,}"), False
    yield t("wizard.fact-template"), template if outline.has_tokenizer else t("wizard.no-tokenizer"), False
    yield t("wizard.fact-licence"), one_line(licence(outline.folder) or t("wizard.unknown")), False
    if outline.quantization:
        yield t("wizard.fact-quantised"), one_line(outline.quantization), False
    if outline.custom_code:
        yield t("wizard.fact-code"), t("wizard.custom-code", files=", ".join(outline.custom_code)), True
    if not outline.has_weights:
        yield t("wizard.fact-weights"), t("wizard.no-weights"), True
    yield t("wizard.fact-folder"), one_line(str(outline.folder)), False


def model_size(parameters: int) -> str:
    """`7.6 B`, `494 M`, `98 k`."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f} B"
    return f"{parameters / 1e6:.0f} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"


# ---- recipe


def planned_recipes(draft: Draft, on_progress: Progress | None = None) -> list[RecipeOffer]:
    """Every recipe for the data's stage, planned, the recommended one first."""
    from finetui.data import Inspection
    from finetui.data.reader import open_input
    from finetui.hardware.probe import probe

    stage = Inspection(open_input(draft.data, draft.reading)).stage if draft.data else None
    return best_first([recipe(draft, each, on_progress) for each in recipes(stage)], len(probe().gpus))


def lengths(tokens: Tokens) -> str:
    """How many rows there are, and how long they are."""
    figures = tokens.to_json()
    code = "wizard.lengths-estimated" if tokens.estimated else "wizard.lengths"
    return t(code, rows=f"{tokens.rows:,}", **{name: f"{figures[name]:,}" for name in ("p50", "p95", "max")})


def written(value: Value) -> str:
    """As `--set` takes it."""
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else as_toml(value)


# ---- review


@dataclass(frozen=True)
class Change:
    """A setting that differs from the recipe."""

    name: str
    before: str
    after: str


def changes(draft: Draft, plan: Plan | None) -> Iterator[Change]:
    """What was set over the recipe; without a plan, over the defaults."""
    asked = plan.settled.request.recipe.values if plan else {}
    for name, value in draft.set_values().items():
        usual = asked.get(name, knobs()[name].default)
        yield Change(name, t("wizard.derived") if usual is None else written(usual), value)


def write_commands(draft: Draft) -> Path:
    """Write the commands that lock and run it into a file beside its bundle.

    Raises OSError where it cannot be written.
    """
    path = draft.out.with_suffix(".sh")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "#!/bin/sh\nset -e\n" + "\n".join(draft.launching()) + "\n")
    return path


# ---- launch


def called(draft: Draft, typed: str) -> Draft:
    """The draft with the folder of its bundle called as was typed, or as it is for nothing."""
    name = Path(typed).expanduser()
    out = name if name.is_absolute() else home.home() / "bundles" / (typed or draft.out.name)
    return replace(draft, out=out if out.suffix == ".bundle" else out.with_name(f"{out.name}.bundle"))


def lock_and_start(draft: Draft, tell: Progress | None = None) -> tuple[RunFolder, tuple[Problem, ...]]:
    """Lock a draft into its bundle and start that; the run, and what is to be said of it.

    Raises FinetuiError where either is refused.
    """
    from finetui.runs.launch import start
    from finetui.wizard import lock

    draft.out.parent.mkdir(parents=True, exist_ok=True)
    locked = lock(draft, tell)
    model = draft.model if Path(draft.model).expanduser().is_dir() else None
    return start(locked.path, model=model, python=draft.python, on_progress=tell), tuple(locked.warnings)
