"""Single rows of a dataset by their number, those that were set aside among them."""

from __future__ import annotations

from collections.abc import Sequence

from finetui.core.errors import FinetuiError, Problem
from finetui.data.problems import Place
from finetui.data.reader import Record, Rejected
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.records import iter_records
from finetui.data.sources.find import Spec


def find_rows(
    specs: Sequence[Spec], first: int, count: int = 1, reading: Reading = AS_DETECTED
) -> list[Record | Rejected]:
    """Up to `count` rows from row `first` on, of the first file that has so many; the data is read no further.

    Raises FinetuiError where there is none, or where the data cannot be read.
    """
    wanted = range(first, first + count)
    found: list[Record | Rejected] = []
    longest = 0

    def keep(row: Record | Rejected) -> None:
        if row.place.row in wanted and (not found or found[0].place.file == row.place.file):
            found.append(row)

    def is_over(place: Place) -> bool:
        return len(found) == count or (bool(found) and (place.file != found[0].place.file or place.row >= wanted.stop))

    records = iter_records(specs, reading, accept_rejected=True, on_problem=keep)
    try:
        for record in records:
            if is_over(record.place):
                break
            keep(record)
            longest = max(longest, record.place.row)
            if is_over(record.place):
                break
    except FinetuiError:  # such as a file that breaks off behind the rows that were wanted
        if not found:
            raise
    if not found:
        total = max([longest, *(source.rows["total"] for source in records.sources)])
        raise FinetuiError(Problem("data.no-such-row", {"row": first, "total": total}, str(specs[0])))
    return found
