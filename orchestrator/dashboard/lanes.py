"""The way of a job as lanes on a time axis: what happened where, in milliseconds.

Pure functions from the API's timeline to marks in the units of a drawing (SVG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.dashboard import formats

Json = dict[str, Any]

#: The lanes from top to bottom, and the kinds of entries in each.
LANES = {
    "submit": ("submit",),
    "push": ("push",),
    "poll": ("poll",),
    "move": ("move",),
    "operator": ("operator",),
    "delivery": ("attempt",),
}
#: Width of the axis, height of a lane, and least width of a mark, in units of the drawing.
WIDTH, HEIGHT, LEAST = 1000.0, 28.0, 6.0
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """One entry: where it is drawn, what it was (`tone` of its outcome), and its words."""

    x: float
    y: float
    width: float
    tone: str
    title: str
    entry: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lanes with their marks, and ticks of the axis with the time since the start."""

    lanes: tuple[str, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    height: float
    seconds: float


def drawn(job: Json, entries: Sequence[Json]) -> Drawing:
    """Return the drawing of a job's timeline. Lanes without an entry are left out."""
    start = _at(job["created_at"])
    offsets = [max(0.0, (_at(one["at"]) - start).total_seconds()) for one in entries]
    ends = [offset + _length(one) for offset, one in zip(offsets, entries, strict=True)]
    whole = max([0.001, *ends])
    kinds = {one["kind"] for one in entries}
    lanes = tuple(name for name, of in LANES.items() if kinds.intersection(of))
    marks = [
        Mark(
            x=round(offset / whole * WIDTH, 1),
            y=lanes.index(lane) * HEIGHT,
            width=round(max(_length(one) / whole * WIDTH, LEAST), 1),
            tone=tone(one),
            title=one["kind"],
            entry=one["id"],
        )
        for offset, one in zip(offsets, entries, strict=True)
        if (lane := _lane(one["kind"])) is not None
    ]
    ticks = tuple(
        (WIDTH * number / _TICKS, formats.span(whole * number / _TICKS))
        for number in range(_TICKS + 1)
    )
    return Drawing(lanes, tuple(marks), ticks, len(lanes) * HEIGHT, whole)


def _lane(kind: str) -> str | None:
    return next((name for name, kinds in LANES.items() if kind in kinds), None)


def _length(entry: Json) -> float:
    """Return the seconds that an entry lasted; 0.0 for an instant."""
    return float(entry.get("ms") or 0) / 1000 if entry["kind"] == "attempt" else 0.0


def tone(entry: Json) -> str:
    """Return how an entry went: `good`, `bad`, `live` or `plain`."""
    kind = entry["kind"]
    if kind == "push":
        outcome = str(entry.get("outcome", ""))
        return "bad" if outcome.startswith(("rejected", "unreadable")) else "good"
    if kind == "attempt":
        return "good" if 200 <= (entry.get("status") or 0) < 300 else "bad"
    if kind == "move":
        return {"succeeded": "good", "failed": "bad", "expired": "bad"}.get(entry["to"], "live")
    if kind == "submit":
        return "bad" if entry.get("reason") else "good"
    return "plain"


def _at(instant: str) -> datetime:
    return datetime.fromisoformat(instant)
