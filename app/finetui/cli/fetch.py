"""`finetui fetch`: a model or a dataset on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetui.cli.common import Output, PathWord, command, option
from finetui.core.errors import MISMATCH, Problem, render, render_warnings
from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from finetui.models.fetch.outcome import Fetched

_NAMED = 8


@command("fetch")
@click.argument("words", metavar="MODEL|DATASET")
@option("--out", metavar="DIR", type=PathWord(), help_code="fetch.opt-out")
@option("--revision", metavar="REVISION", help_code="fetch.opt-revision")
@option("--dataset", is_flag=True, help_code="fetch.opt-dataset")
@option("--from", "site", type=click.Choice(["hub", "modelscope", "url"]), help_code="fetch.opt-from")
@option("--without-weights", is_flag=True, help_code="fetch.opt-without-weights")
@option("--files", "files", metavar="PATTERN", multiple=True, help_code="fetch.opt-files")
@option("--check", "checking", is_flag=True, help_code="fetch.opt-check")
def fetch_command(
    output: Output,
    words: str,
    out: Path | None,
    revision: str | None,
    dataset: bool,
    site: str | None,
    without_weights: bool,
    files: tuple[str, ...],
    checking: bool,
) -> int:
    """Fetch, and say where it is; or read again what was fetched."""
    from finetui.cli.fetch_progress import FetchProgress
    from finetui.models.fetch.flow import fetch
    from finetui.models.fetch.outcome import Request

    if checking:
        return _check(output, words, dataset=dataset, revision=revision)
    if out is not None:
        out = out.expanduser().absolute()
    request = Request(words, out, revision, dataset, site, not without_weights, files)
    with FetchProgress(output) as progress:
        fetched = fetch(request, progress)
    _show(output, fetched)
    output.result(fetched.to_json())
    return 0


def _show(output: Output, fetched: Fetched) -> None:
    from finetui.models.fetch.local import default_place
    from finetui.models.fetch.space import in_words

    size = sum(part.bytes for part in fetched.files.values())
    facts = {"source": fetched.source, "path": fetched.path, "count": len(fetched.files), "bytes": in_words(size)}
    code = "fetch.already" if fetched.already else "fetch.done"
    output.data(t(code, **facts, seconds=f"{fetched.seconds:.1f}"))
    if fetched.revision:
        output.data(t("fetch.revision", revision=fetched.revision))
    if fetched.resumed_bytes:
        output.note(t("fetch.resumed", bytes=in_words(fetched.resumed_bytes)))
    if fetched.left_out:
        output.note(t("fetch.left-out", files=_names(fetched.left_out)))
    if fetched.notes:
        output.note(render_warnings(fetched.notes))
    name = fetched.source if fetched.path == default_place(fetched.source, fetched.kind) else str(fetched.path)
    if fetched.kind == "dataset":
        output.note(t("errors.next", command=shlex.join(["finetui", "inspect", name])))
    else:
        output.note(t("errors.next", command=f"finetui plan --model {shlex.quote(name)} --recipe lora-3090"))


def _check(output: Output, words: str, *, dataset: bool, revision: str | None) -> int:
    from finetui.cli.fetch_progress import FetchProgress
    from finetui.models.fetch.check import check

    with FetchProgress(output) as progress:
        checked = check(words, dataset=dataset, revision=revision, on_progress=progress)
    output.result(checked.to_json())
    if checked.is_good:
        output.data(t("fetch.checked", path=checked.path, count=len(checked.manifest.files)))
        return 0
    names = [*checked.absent, *(path for path, _, _ in checked.mismatches)]
    facts = {"path": checked.path, "names": _names(names), "source": checked.manifest.source}
    output.note(render([Problem("fetch.changed", facts)]))
    return MISMATCH


def _names(paths: Sequence[str]) -> str:
    shown = ", ".join(one_line(path, 80) for path in paths[:_NAMED])
    return f"{shown}, …" if len(paths) > _NAMED else shown
