"""Misbehaviour on request: probabilities that may change at any time, and scripted one-shots."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Final

from orchestrator.simulator.shapes import JSON, JsonObject

ON_SUBMIT: Final = frozenset(
    {
        "refuse_rate",
        "server_error",
        "server_error_accepted",
        "cut_answer",
        "empty_answer",
        "push_before_answer",
        "fail_render",
        "no_url",
        "unknown_word",
    }
)
ON_QUERY: Final = frozenset({"refuse_rate", "server_error", "cut_answer", "no_url", "unknown_word"})
ON_PUSH: Final = frozenset(
    {
        "drop_push",
        "delay_push",
        "duplicate_push",
        "reorder_push",
        "forged_push",
        "stale_push",
        "no_url",
        "unknown_word",
    }
)
OPERATIONS: Final = {"submit": ON_SUBMIT, "query": ON_QUERY, "push": ON_PUSH}
# What a probability is drawn for. A one-shot may strike at the other operations too.
DRAWN: Final = {
    "submit": ON_SUBMIT,
    "query": frozenset({"server_error"}),
    "push": ON_PUSH - {"no_url", "unknown_word"},
}


@dataclass
class Faults:
    """Probabilities from 0 to 1, drawn per submission, question or push; and their measures.

    `server_error_accepted` and `cut_answer` leave an accepted render behind. `no_url` withholds the URL of a succeeded
    render in its first `no_url_times` answers and pushes, or for ever if that is None. A delayed push waits
    `delay_seconds` (from, to) and may be overtaken. A fresh render stays unknown to questions for `visibility_lag`
    seconds.
    """

    drop_push: float = 0
    delay_push: float = 0
    duplicate_push: float = 0
    reorder_push: float = 0
    push_before_answer: float = 0
    cut_answer: float = 0
    empty_answer: float = 0
    refuse_rate: float = 0
    server_error: float = 0
    server_error_accepted: float = 0
    no_url: float = 0
    forged_push: float = 0
    stale_push: float = 0
    fail_render: float = 0
    unknown_word: float = 0
    delay_seconds: tuple[float, float] = (0.5, 2.0)
    no_url_times: int | None = 2
    visibility_lag: float = 0

    @classmethod
    def from_json(cls, given: JSON) -> Faults:
        """Faults as a JSON object names them. Raises ValueError for an unknown name or a value that is no measure."""
        known = {one.name for one in fields(cls)}
        if not isinstance(given, dict) or not given.keys() <= known:
            raise ValueError(f"faults: not an object with some of {', '.join(sorted(known))}")
        made = cls()
        for name, value in given.items():
            setattr(made, name, measure(name, value))
        return made

    def to_json(self) -> JsonObject:
        return {**asdict(self), "delay_seconds": [*self.delay_seconds]}


def measure(name: str, value: JSON) -> float | tuple[float, float] | None:
    """One value of Faults out of JSON."""
    match value:
        case None if name == "no_url_times":
            return None
        case [int() | float() as low, int() | float() as high] if name == "delay_seconds":
            return low, high
        case int() | float() if value >= 0 and name != "delay_seconds":
            return value
    raise ValueError(f"{name}: {value!r} is not possible")


class Chance:
    """Decides whether a fault strikes: a scripted one-shot first, the seeded draw otherwise."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self._scripted: Counter[tuple[str, str, str]] = Counter()

    def inject(self, vendor: str, operation: str, fault: str, times: int = 1) -> None:
        """Make `fault` strike the next `times` times. Raises ValueError where it cannot happen."""
        if fault not in OPERATIONS.get(operation, frozenset()):
            raise ValueError(f"{fault} cannot happen on {operation}")
        self._scripted[vendor, operation, fault] += times

    def strikes(self, vendor: str, operation: str, fault: str) -> bool:
        if self._scripted[vendor, operation, fault] > 0:
            self._scripted[vendor, operation, fault] -= 1
            return True
        share: float = getattr(self.faults, fault) if fault in DRAWN[operation] else 0
        return share > 0 and self.rng.random() < share
