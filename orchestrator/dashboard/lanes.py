"""The way of a job as lanes on a time axis: what happened where, in milliseconds.

Pure functions from the API's timeline to marks in the units of a drawing (SVG). A job takes
milliseconds at its ends and minutes between them, so a gap is as wide as its logarithm; the labels
are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import log2
from typing import Any

from orchestrator.dashboard import formats

Json = dict[str, Any]

#: The lanes from top to bottom, and the kinds of entries in each.
LANES = {
    "submit": ("submit",),
    "push": ("push",),
    "poll": ("poll",),
    "move": ("move",),
    "event": ("event",),
    "operator": ("operator",),
    "delivery": ("attempt",),
}
#: Width of the axis, height of a lane, and least width of a mark, in units of the drawing.
WIDTH, HEIGHT, LEAST = 1000.0, 28.0, 6.0
#: Least distance between two labels of the axis.
_APART = 105.0
#: Marks that are drawn later cover those at the same place.
_ORDER = ("plain", "live", "good", "bad")


@dataclass(frozen=True, slots=True)
class Mark:
    """One entry: where it is drawn, and how it went (`tone`)."""

    x: float
    y: float
    width: float
    tone: str
    entry: Json


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lanes with their marks, and ticks of the axis with the time since the start."""

    lanes: tuple[str, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    height: float


def drawn(job: Json, entries: Sequence[Json]) -> Drawing:
    """Return the drawing of a job's timeline. Lanes without an entry are left out."""
    offsets = [offset(job, one) for one in entries]
    ends = [begin + _length(one) for begin, one in zip(offsets, entries, strict=True)]
    places = _places({0.0, *offsets, *ends})
    kinds = {one["kind"] for one in entries}
    lanes = tuple(name for name, of in LANES.items() if kinds.intersection(of))
    marks = [
        Mark(
            x=min(places[begin], WIDTH - LEAST),
            y=lanes.index(lane) * HEIGHT,
            width=max(round(places[end] - places[begin], 1), LEAST),
            tone=tone(one),
            entry=one,
        )
        for begin, end, one in zip(offsets, ends, entries, strict=True)
        if (lane := _lane(one["kind"])) is not None
    ]
    marks.sort(key=lambda mark: _ORDER.index(mark.tone))
    return Drawing(lanes, tuple(marks), tuple(_ticks(places)), len(lanes) * HEIGHT)


def offset(job: Json, entry: Json) -> float:
    """Return the seconds from the creation of a job to an entry of its timeline."""
    return max(0.0, (_at(entry["at"]) - _at(job["created_at"])).total_seconds())


def _places(moments: Iterable[float]) -> dict[float, float]:
    """Return where each moment is on the axis."""
    ordered = sorted(moments)
    places, total = {ordered[0]: 0.0}, 0.0
    for before, moment in pairwise(ordered):
        total += log2(1 + (moment - before) * 1000)
        places[moment] = total
    return {moment: round(at / (total or 1.0) * WIDTH, 1) for moment, at in places.items()}


def _ticks(places: dict[float, float]) -> Iterator[tuple[float, str]]:
    """Yield labels that do not cover each other; the last moment has one."""
    *earlier, (end, right) = sorted(places.items())
    last = -_APART
    for moment, place in earlier:
        if place - last >= _APART and right - place >= _APART:
            last = place
            yield place, formats.exact(moment)
    yield right, formats.exact(end)


def _lane(kind: str) -> str | None:
    return next((name for name, kinds in LANES.items() if kind in kinds), None)


def _length(entry: Json) -> float:
    """Return the seconds that an entry lasted; 0.0 for an instant."""
    return float(entry.get("ms") or 0) / 1000 if entry["kind"] == "attempt" else 0.0


def tone(entry: Json) -> str:
    """Return how an entry went: `good`, `bad`, `live` or `plain`."""
    kind, outcome = entry["kind"], str(entry.get("outcome", ""))
    if kind == "push":
        is_bad = outcome.startswith(("rejected", "unreadable")) or outcome == "contradicts"
        return "bad" if is_bad else "plain" if outcome == "nothing_new" else "good"
    if kind == "attempt":
        return "good" if 200 <= (entry.get("status") or 0) < 300 else "bad"
    if kind == "move":
        return {"succeeded": "good", "failed": "bad", "expired": "bad"}.get(entry["to"], "live")
    if kind in ("submit", "poll"):
        return "bad" if entry.get("reason") or outcome == "not_found" else "good"
    return "plain"


def _at(instant: str) -> datetime:
    return datetime.fromisoformat(instant)
