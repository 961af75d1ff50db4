"""What of a row's text each of its tokens is, for showing a row token by token."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer

from finetui.core.encode.encoded import Encoded

_UNFINISHED = "\ufffd"


def pieces(row: Encoded, tokenizer: Tokenizer) -> list[str]:
    """The text of each token, together the row's text; the token's own name where it stands for no text (`</s>`).

    A character of several tokens belongs to the last of them.
    """
    for special in (False, True):
        encoding = tokenizer.encode(row.text, add_special_tokens=special)
        if encoding.ids == row.input_ids[: len(encoding)] and len(row.input_ids) - len(encoding) <= 1:
            return _named(_sliced(row.text, encoding), row.input_ids, tokenizer)
    return _decoded(row.input_ids, tokenizer)


def _sliced(text: str, encoding: Encoding) -> list[str]:
    """The text cut where tokens end; what no token covers goes with the one after it, at the end with the last."""
    found = [""] * len(encoding)
    offsets, added = encoding.offsets, encoding.special_tokens_mask
    tokens = [index for index in range(len(encoding)) if not added[index]]
    at = 0
    for index, following in zip(tokens, [*tokens[1:], None], strict=False):
        end = len(text) if following is None else max(at, min(offsets[index][1], offsets[following][0]))
        found[index] = text[at:end]
        at = end
    return found


def _named(found: list[str], ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """The pieces, with the names of the special tokens that the text does not hold."""
    special = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    padded = [*found, *[""] * (len(ids) - len(found))]
    return [text or special.get(i, "") for text, i in zip(padded, ids, strict=True)]


def _decoded(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """The text that each token adds to those before it; decoded a few tokens at a time, as streaming does."""
    found: list[str] = []
    first = last = 0
    for end in range(1, len(ids) + 1):
        before = tokenizer.decode(ids[first:last], skip_special_tokens=False)
        text = tokenizer.decode(ids[first:end], skip_special_tokens=False)
        if text.endswith(_UNFINISHED) and end < len(ids):
            found.append("")
            continue
        found.append(text[len(before) :])
        first, last = last, end
    return found
