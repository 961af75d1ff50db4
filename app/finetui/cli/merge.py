"""`finetui merge`: an adapter into its base model."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from finetui.cli.common import Output, PathWord, command, option
from finetui.cli.stages import Stages
from finetui.core.errors import JOB_FAILED, Problem, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.merging import merge_reference
from finetui.models.merged import Merged, QuantizedBase


@command("merge")
@click.argument("reference", metavar="RUN|ADAPTER")
@option("--model", metavar="BASE", help_code="merge.opt-model")
@option("--out", metavar="DIR", type=PathWord(), help_code="merge.opt-out")
@option("--python", metavar="PATH", help_code="cli.opt-python")
def merge_command(output: Output, reference: str, model: str | None, out: Path | None, python: str | None) -> int:
    """Merge, and say how near the merged model is to base + adapter."""
    with Stages(output) as stages:
        merged = merge_reference(reference, model=model, out=out, python=python, on_progress=stages)
    output.result(merged.to_json())
    if merged.is_good:
        _show(output, merged)
        return 0
    output.note(render([fault(merged, reference)]))
    return JOB_FAILED


def _show(output: Output, merged: Merged) -> None:
    mb, seconds = round(merged.bytes / 1e6), round(merged.seconds)
    output.data(t("merge.done", base=merged.base, out=merged.out, mb=mb, seconds=seconds))
    if merged.kl is None:
        output.note(t("errors.warning", text=t("merge.not-compared", base=merged.base)))
    else:
        own = f"{merged.adapter_kl:.2g}"
        output.data(t("merge.figures", positions=merged.positions, adapter_kl=own, **figures(merged)))
        if (trained := merged.quantized_base) is not None:
            output.data(_quantized(trained))
            if merged.near_trained is False:
                far = t("merge.far-from-trained", own=own, kl=f"{trained.kl:.2g}")
                output.note(t("errors.warning", text=far))
    output.note(t("errors.next", command=t("merge.next-chat", out=shlex.quote(str(merged.out)))))


def _quantized(base: QuantizedBase) -> str:
    if base.kl is None:
        return t("merge.quantized-unmeasured", type=base.type, why=one_line(base.why_not or ""))
    return t("merge.quantized", type=base.type, **figures(base))


def figures(found: Merged | QuantizedBase) -> dict[str, str]:
    """What a comparison measured, in words of two digits."""
    assert found.top1_agreement is not None
    return {
        "agreement": f"{100 * found.top1_agreement:.2f}",
        "kl": f"{found.kl:.2g}",
        "mean": f"{found.mean_logit_difference:.2g}",
        "most": f"{found.max_logit_difference:.2g}",
    }


def fault(merged: Merged, reference: str) -> Problem:
    """What is wrong with a merged model that is not good."""
    if merged.top1_agreement is None or merged.kl is None:
        return Problem("merge.does-not-load", {"out": merged.out, "why": merged.why_not or ""})
    facts = {
        "out": merged.out,
        "adapter": reference,
        "agreement": f"{100 * merged.top1_agreement:.2f}",
        "kl": f"{merged.kl:.2g}",
        "most": f"{merged.most_kl:.2g}",
    }
    return Problem("merge.disagrees", facts)
