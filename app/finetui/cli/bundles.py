"""`finetui verify`: whether a bundle is still what was locked."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from finetui.cli.common import Output, PathWord, command


@command("verify")
@click.argument("bundle", type=PathWord())
def verify_command(output: Output, bundle: Path) -> int:
    """Compare every byte with the manifest, and say what differs."""
    from finetui.bundles.verify import verify
    from finetui.core.errors import DONE, MISMATCH
    from finetui.core.messages import t

    found = verify(bundle)
    for mismatch in found["mismatches"]:
        facts = {"path": mismatch["path"], "expected": mismatch["expected"] or "–", "actual": mismatch["actual"] or "–"}
        output.note(t("bundles.mismatch", **facts))
    for missing in found["absent"]:
        output.note(t("bundles.model-elsewhere", name=missing["name"]))
    where = ["--model", "PATH"] if found["absent"] else []
    if found["ok"]:
        output.note(t("bundles.verified", id=found["id"]))
        output.note(t("errors.next", command=shlex.join(["finetui", "run", str(bundle), *where])))
    else:
        output.note(t("bundles.not-verified", count=len(found["mismatches"])))
    output.result(found)
    return DONE if found["ok"] else MISMATCH
