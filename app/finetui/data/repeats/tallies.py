"""What the rows of one pass repeat, told with the other problems: exactly, and nearly where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetui.core.text import one_line
from finetui.data.problems import EXAMPLES, Place, Tally
from finetui.data.repeats.duplicates import DUPLICATE, Duplicates, Spot

if TYPE_CHECKING:
    from finetui.data.repeats.near import NearDuplicates

NEAR_DUPLICATE = "near-duplicate"


class Repeats:
    """Every row of a pass held against those before it; `files` are the names of what is read.

    `similarity` is the share of their text from which two rows are nearly the same, None where that is not asked.
    """

    def __init__(self, files: Sequence[str], similarity: float | None = None) -> None:
        self._files = files
        self._exact = Duplicates()
        self._near: NearDuplicates | None = None
        if similarity is not None:
            from finetui.data.repeats.near import NearDuplicates

            self._near = NearDuplicates(similarity)

    def none_in(self, bodies: Sequence[bytes]) -> bool:
        """Whether rows are all new and nothing more is asked of them: then, and only then, they are taken in."""
        return self._near is None and self._exact.add_new([hash(body) for body in bodies])

    def is_one(self, body: bytes, record: Mapping[str, Any], file: int, place: Place) -> bool:
        """Take in one row, in the order of reading; whether it is known already to be a duplicate.

        Raises OSError where the disk is full.
        """
        key = hash(body)
        spot = Spot(file, place.row, place.line or 0, -1 if place.byte is None else place.byte)
        if self._near is not None:
            self._near.add(key, record, spot)
        return self._exact.add(key, spot)

    def tell(self, tally: Tally) -> None:
        """Count what is known only now, with all rows read."""
        count, spots = self._exact.late(EXAMPLES)
        tally.add_many(DUPLICATE, count, [(self._place(spot), "") for spot in spots])
        if self._near is None:
            return
        count, examples = 0, list[tuple[Place, str]]()
        for row, first, is_exact in self._near.joined():
            count += not is_exact
            if not is_exact and len(examples) < EXAMPLES:
                like = self._place(self._near.spot(first))
                shown = f"~ {one_line(like.file)}:{like.line or like.row}"
                examples.append((self._place(self._near.spot(row)), shown))
        tally.add_many(NEAR_DUPLICATE, count, examples)
        self._near.close()

    def _place(self, spot: Spot) -> Place:
        return Place(self._files[spot.file], spot.row, spot.line or None, spot.byte if spot.byte >= 0 else None)
