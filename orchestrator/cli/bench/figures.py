"""Figures, each beside its limit: medians over rounds, and ratios within each round, since machines are noisy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


def quantile(values: Sequence[float], share: float) -> float:
    """Return what `share` of the values do not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure is measured beside: the same unit, round by round."""

    name: str
    rounds: Sequence[float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, once in every round. The name ends with its unit: `pushes_per_s`, `p99_ms`."""

    name: str
    rounds: Sequence[float]
    limits: Sequence[Limit] = ()

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.rounds)

    def ratios(self, limit: Limit) -> list[float]:
        """Return figure over limit within each round, smallest first; a limit of zero has none."""
        return sorted(a / b for a, b in zip(self.rounds, limit.rounds, strict=True) if b)

    def document(self) -> Json:
        """Return it for machines."""
        return {
            "value": short(self.value),
            "rounds": [short(one) for one in self.rounds],
            "limits": {limit.name: self._beside(limit) for limit in self.limits},
        }

    def _beside(self, limit: Limit) -> Json:
        ratios = self.ratios(limit)
        spread = (
            {"min": ratios[0], "median": statistics.median(ratios), "max": ratios[-1]}
            if ratios
            else {}
        )
        return {
            "value": short(statistics.median(limit.rounds)),
            "ratio": {name: short(ratio) for name, ratio in spread.items()} or None,
        }

    def lines(self) -> list[list[str]]:
        """Return it for people: name, value, and beside it each limit with the ratio's median, smallest and largest."""
        said = [self.name.replace("_", " "), words(self.value)]
        lines = [[*self._lines(limit)] for limit in self.limits] or [["", "", ""]]
        return [[*(said if number == 0 else ["", ""]), *line] for number, line in enumerate(lines)]

    def _lines(self, limit: Limit) -> tuple[str, str, str]:
        ratios = self.ratios(limit)
        middle = words(statistics.median(ratios)) if ratios else "-"
        spread = f" ({words(ratios[0])}-{words(ratios[-1])})" if len(ratios) > 1 else ""
        return words(statistics.median(limit.rounds)), limit.name, middle + spread


@dataclass(frozen=True, slots=True)
class Honest:
    """What makes speed honest: all of it is zero where the promises were kept."""

    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0

    def __add__(self, other: Honest) -> Honest:
        return Honest(
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.out_of_order + other.out_of_order,
        )

    def document(self) -> Json:
        """Return it for machines."""
        return {"lost": self.lost, "duplicated": self.duplicated, "out_of_order": self.out_of_order}


@dataclass(frozen=True, slots=True)
class Result:
    """What a bench came to. `operations` is what the figures were taken from, over all rounds; `more` explains them."""

    bench: str
    operations: int
    figures: Sequence[Figure]
    honest: Honest = Honest()
    more: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> Json:
        """Return it for machines."""
        return {
            "bench": self.bench,
            "operations": self.operations,
            "figures": {figure.name: figure.document() for figure in self.figures},
            **self.honest.document(),
            **({"more": dict(self.more)} if self.more else {}),
        }

    def table(self) -> list[list[str]]:
        """Return its lines for people."""
        return [line for figure in self.figures for line in figure.lines()]


#: Of the table's columns.
HEADS = ("figure", "value", "limit", "measured beside", "ratio (min-max)")


def total(parts: Sequence[Honest]) -> Honest:
    """Return the sum of what several rounds counted."""
    return sum(parts, Honest())


def latencies(
    rounds: Sequence[Sequence[float]], beside: Mapping[str, Sequence[Sequence[float]]]
) -> list[Figure]:
    """Return p50, p95 and p99 in milliseconds of times in seconds, each beside the same of others."""
    return [
        Figure(
            f"p{round(100 * share)}_ms",
            [1000 * quantile(one, share) for one in rounds],
            [
                Limit(name, [1000 * quantile(one, share) for one in others])
                for name, others in beside.items()
            ],
        )
        for share in (0.5, 0.95, 0.99)
    ]


def short(number: float) -> float:
    """Return four significant digits: the rest is noise."""
    return float(f"{number:.4g}")


def words(number: float) -> str:
    """Return a number as people read it."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.3g}"
