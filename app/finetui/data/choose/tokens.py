"""How many tokens a record has, as the model sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetui.data.choose.decide import Count

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finetui.core.encode import Template


def token_counter(tokenizer: Tokenizer, template: Template) -> Count:
    """Counts the tokens of a record under this template, of its longest side; None where the template refuses it."""
    from finetui.core.encode import EncodeError, encode_views

    def count(record: Mapping[str, Any]) -> int | None:
        try:
            return max(len(view.row.input_ids) for view in encode_views(record, tokenizer, template))
        except EncodeError:
            return None

    return count
