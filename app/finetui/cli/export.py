"""The command `export`: a bundle as other programs take it."""

from __future__ import annotations

from pathlib import Path

import click

from finetui.bundles.folder import Bundle
from finetui.cli.common import Output, PathWord, command, option
from finetui.core import jobs
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem, ShellWords
from finetui.core.files import replacing
from finetui.core.messages import t
from finetui.runs import skypilot
from finetui.runs.launch import check_unchanged, locked_model
from finetui.runs.slurm.script import Job, render
from finetui.runs.slurm.site import Site

TARGETS = {"slurm": ".sbatch", "skypilot": ".sky.yaml"}
"""What a bundle can be exported to, and how the file's name ends."""
_COMMANDS = {"slurm": "sbatch", "skypilot": "sky launch"}


@command("export")
@click.argument("bundle", type=PathWord())
@option("--to", "target", type=click.Choice(list(TARGETS)), required=True, help_code="export.opt-to")
@option("--out", type=PathWord(), metavar="FILE", help_code="export.opt-out")
@option("--nodes", type=click.IntRange(1), default=1, metavar="N", help_code="nodes.opt-nodes")
@option("--model", metavar="PATH", help_code="runs.opt-model")
@option("--python", metavar="PATH", help_code="cli.opt-python")
def export_command(
    output: Output, bundle: Path, target: str, out: Path | None, nodes: int, model: str | None, python: str | None
) -> None:
    """Write the file, and say what takes it."""
    found = Bundle.load(bundle)
    check_unchanged(found)
    folder = str(locked_model(found, model, None).absolute())
    file = out or Path(f"{found.name}{TARGETS[target]}")
    if file.exists():
        raise FinetuiError(Problem("export.exists", {}, str(file)), BAD_INPUT)
    if not file.parent.is_dir():
        raise FinetuiError(Problem("export.no-folder", {"folder": str(file.parent)}, str(file)), BAD_INPUT)
    slurm = target == "slurm"
    text = _slurm(found, folder, python, nodes) if slurm else skypilot.render(found, folder, nodes=nodes)
    with replacing(file, "w") as stream:
        stream.write(text)
    output.result({"out": str(file), "to": target, "bundle": str(found.path), "id": found.id, "nodes": nodes})
    output.data(t("export.written", out=str(file), to=target))
    output.note(t("errors.next", command=str(ShellWords(f"{_COMMANDS[target]} {file}"))))


def _slurm(bundle: Bundle, model: str, python: str | None, nodes: int) -> str:
    site = Site.read()
    here = Path.cwd()
    job = Job(
        name=bundle.name,
        lock=bundle.lock,
        bundle=bundle.path,
        model=model,
        out=str(here / f"out-{bundle.name}"),
        python=jobs.interpreter(python or site.python or None),
        log=str(here / f"{bundle.name}-%j.log"),
        nodes=nodes,
    )
    return render(job, site)
