"""What subscribers wish beyond their types: a filter, checked by a function, and the order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple


class Wish(NamedTuple):
    """A filter, and whether it should match the body of an event; and whether order is wished."""

    filter: dict[str, Any] | None
    is_met: Callable[[Any], bool]
    ordered: bool


_FILTERS: tuple[tuple[dict[str, Any], Callable[[Any], bool]], ...] = (
    (
        {"data": {"account": {"$in": ["kling", "dream", "keyed"]}}},
        lambda body: body["data"]["account"] in ("kling", "dream", "keyed"),
    ),
    (
        {"data": {"error": {"code": {"$neq": "vendor_failed"}}}},
        lambda body: (body["data"]["error"] or {}).get("code") != "vendor_failed",
    ),
    (
        {"$or": [{"type": {"$endsWith": ".succeeded"}}, {"sequence": {"$lt": 3}}]},
        lambda body: body["type"] == "job.succeeded" or body["sequence"] < 3,
    ),
    (
        {"data": {"input": {"prompt": "a cat"}, "progress": {"$not": {"$gt": 50}}}},
        lambda body: not (body["data"]["progress"] or 0) > 50,
    ),
)


def wish_of(rng: random.Random) -> Wish:
    """Return the wish of one subscriber. Most have none, half of them an order."""
    given, is_met = rng.choice(_FILTERS) if rng.random() < 0.3 else (None, _anything)
    return Wish(given, is_met, rng.random() < 0.5)


def _anything(body: Any) -> bool:
    return True
