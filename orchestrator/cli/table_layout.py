"""The layout of a table on a terminal: the columns that fit, their widths, and wrapped words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from orchestrator.foundation import ids

#: Cells of this width are not shortened any further.
_NARROWEST = 8
#: The columns `first` are not shortened further to make room for others.
_LEGIBLE = 24
#: The room for words that are wrapped; a wider table leaves more.
_WRAPPED = 28
#: Cells between two columns.
_GAP = 2
#: Less room than this holds no words.
_LEAST = 24
_IDS = re.compile(rf"\b{ids.pattern('[a-z]{3}')}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Layout:
    """The numbers of the columns that are shown, and their widths."""

    shown: Sequence[int]
    widths: Sequence[int]


def unlimited(columns: Sequence[Sequence[str]]) -> Layout:
    """Return the layout of a table that may have any width."""
    return Layout(range(len(columns)), [max(map(cell_len, column)) for column in columns])


def laid_out(
    columns: Sequence[Sequence[str]],
    room: int,
    *,
    first: Sequence[int] = (),
    whole: Collection[int] = (),
    wraps: bool = False,
) -> Layout:
    """Return the layout of columns (a head and cells each) in so many cells.

    The columns `first` are always shown, and every column if there are none; the others as far as
    they fit in their full width. Then the widest shrink, but not the first column, ids, times, and
    `whole`. `wraps`: the last column is wrapped, not cut.
    """
    full = list(unlimited(columns).widths)
    last = full[-1]
    if wraps:
        full[-1] = min(last, _WRAPPED)
    fixed = {0, *whole, *(n for n, cells in enumerate(columns) if _is_unshortened(cells))}
    able = {number for number in first if number not in fixed}
    least = [min(width, _LEGIBLE) if n in able else width for n, width in enumerate(full)]
    shown = {*(first or range(len(columns)))}
    for number in range(len(columns)):
        if _width([least[n] for n in {*shown, number}]) <= room:
            shown.add(number)
    order = sorted(shown)
    here = {place for place, number in enumerate(order) if number in fixed}
    widths = fitted([full[number] for number in order], here, room)
    if wraps and order[-1] == len(columns) - 1:
        widths[-1] = last
    return Layout(order, widths)


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def fitted(widths: Sequence[int], fixed: Collection[int], room: int) -> list[int]:
    """Return column widths, two apart, that fit in `room`: the widest shrink, `fixed` never."""
    fitting = list(widths)
    while _width(fitting) > room:
        able = [n for n, width in enumerate(fitting) if n not in fixed and width > _NARROWEST]
        if not able:
            break
        fitting[max(able, key=fitting.__getitem__)] -= 1
    return fitting


def hung(line: str, indent: int, room: int) -> str:
    """Return a line of a table with the words of its last column wrapped to `room`."""
    if cell_len(line) <= room or room - indent < _LEAST:
        return line
    return textwrap.fill(
        line, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _is_unshortened(cells: Sequence[str]) -> bool:
    """True for a column of ids or times: half of either is useless."""
    return any(_IDS.search(cell) or _MOMENT.fullmatch(cell) for cell in cells)
