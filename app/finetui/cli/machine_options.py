"""What is said of the machine that will train: the price of its GPUs."""

from __future__ import annotations

import math
from typing import Any

import click

from finetui.core.messages import t

_MOST = 1e9
"""Beyond every price; a sum of such prices is still a number."""


class Price(click.ParamType[float]):
    """Money an hour, in whatever currency."""

    name = "price"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            price = float(value)
        except ValueError:
            price = math.nan
        if not 0 <= price <= _MOST:
            self.fail(t("plan.bad-price", value=str(value)), param, ctx)
        return price
