"""Stacked columns as a drawing (SVG). Pure functions: from counts to marks in its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Width and height of the columns' area in units of the drawing.
WIDTH, HEIGHT = 640.0, 160.0
#: The part of a column's place that stays free.
_GAP = 0.2
#: Labels below the columns at most: more would touch each other.
_LABELS = 8


@dataclass(frozen=True, slots=True)
class Column:
    """What one column shows: a count for each series, by its name; others are not drawn."""

    label: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a column. `series` is its tone and its word."""

    x: float
    y: float
    width: float
    height: float
    series: str
    count: int
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, the labels below them, and `most`: the count that is as high as the drawing."""

    bars: tuple[Bar, ...]
    labels: tuple[tuple[float, str], ...]
    most: int


def stacked(columns: Sequence[Column], series: Sequence[str]) -> Chart:
    """Return the drawing of columns, the first series at the bottom. Empty parts have no bar."""
    sums = (sum(column.counts.get(name, 0) for name in series) for column in columns)
    most = max(sums, default=0)
    place = WIDTH / max(len(columns), 1)
    bars: list[Bar] = []
    for number, column in enumerate(columns):
        below = 0
        for name in series:
            count = column.counts.get(name, 0)
            if count:
                height = count / most * HEIGHT
                y = HEIGHT - below / most * HEIGHT - height
                x, width = place * (number + _GAP / 2), place * (1 - _GAP)
                x, y, width, height = (round(one, 1) for one in (x, y, width, height))
                bars.append(Bar(x, y, width, height, name, count, column.label))
            below += count
    step = -(-len(columns) // _LABELS) or 1
    labels = tuple(
        (round(place * (number + 0.5), 1), column.label)
        for number, column in enumerate(columns)
        if number % step == 0
    )
    return Chart(tuple(bars), labels, most)
