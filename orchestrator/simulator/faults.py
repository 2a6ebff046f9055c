"""Faults on request: probabilities that may change at any time, and scripted one-shots.

The fields of `Faults` are the one table of faults. Validation, `--help` and the operations that a
fault affects derive from it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from orchestrator.simulator.json_body import JSON, JsonObject


def on(meaning: str, *drawn: str, scripted: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return the metadata of a fault: what it does, and the operations it affects.

    Its probability is drawn on the operations in `drawn`; a one-shot may affect those in
    `scripted` too.
    """
    return {"meaning": meaning, "drawn": drawn, "scripted": (*drawn, *scripted)}


@dataclass
class Faults:
    """Probabilities from 0 to 1, drawn per submission, status query or push; and three amounts."""

    drop_push: float = field(default=0, metadata=on("a push is not sent", "push"))
    delay_push: float = field(
        default=0, metadata=on("a push is sent after delay_seconds; others may overtake it", "push")
    )
    duplicate_push: float = field(default=0, metadata=on("a push is sent twice", "push"))
    reorder_push: float = field(
        default=0, metadata=on("the push of `processing` is sent after the final one", "push")
    )
    push_before_answer: float = field(
        default=0, metadata=on("every push arrives before the submit response", "submit")
    )
    cut_answer: float = field(
        default=0,
        metadata=on(
            "a submission is accepted, then its connection is reset without a response",
            "submit",
            scripted=("query",),
        ),
    )
    empty_answer: float = field(
        default=0, metadata=on("a submission is accepted and answered with {}", "submit")
    )
    refuse_rate: float = field(
        default=0, metadata=on("a submission is refused with a 429", "submit", scripted=("query",))
    )
    server_error: float = field(
        default=0, metadata=on("a submission or status query fails with a 500", "submit", "query")
    )
    server_error_accepted: float = field(
        default=0, metadata=on("a submission is accepted and answered with a 504", "submit")
    )
    no_url: float = field(
        default=0,
        metadata=on(
            "a succeeded render has no URL in no_url_times responses and pushes",
            "submit",
            scripted=("query", "push"),
        ),
    )
    forged_push: float = field(
        default=0,
        metadata=on("a push is preceded by one with a false token and URL, unsigned", "push"),
    )
    stale_push: float = field(
        default=0, metadata=on("a signed push is signed for ten minutes ago", "push")
    )
    fail_render: float = field(default=0, metadata=on("a render ends in failure", "submit"))
    unknown_word: float = field(
        default=0,
        metadata=on(
            "a render passes through an undocumented status", "submit", scripted=("query", "push")
        ),
    )
    delay_seconds: tuple[float, float] = field(
        default=(0.5, 2.0), metadata=on("least and greatest delay of delay_push, in seconds")
    )
    no_url_times: int | None = field(
        default=2, metadata=on("responses and pushes that no_url affects; null affects all")
    )
    visibility_lag: float = field(
        default=0, metadata=on("seconds for which status queries do not find a new render")
    )

    @classmethod
    def from_json(cls, given: JSON) -> Faults:
        """Return the faults in a JSON object. Raises `ValueError` for an unknown name or value."""
        if not isinstance(given, dict) or not given.keys() <= FAULTS.keys():
            raise ValueError(f"faults: must be an object with some of {', '.join(sorted(FAULTS))}")
        faults = cls()
        for name, value in given.items():
            setattr(faults, name, fault_value(name, value))
        return faults

    def to_json(self) -> JsonObject:
        return {**asdict(self), "delay_seconds": [*self.delay_seconds]}


#: Name -> metadata.
FAULTS: Final = {fault.name: fault.metadata for fault in fields(Faults)}


def describe_faults() -> str:
    """Return one line for each fault: its name, what it does, and its default if that is not 0."""
    lines = []
    for name, default in Faults().to_json().items():
        suffix = f" (default: {json.dumps(default)})" if default else ""
        lines.append(f"  {name:<22} {FAULTS[name]['meaning']}{suffix}")
    return "\n".join(lines)


def fault_value(name: str, value: JSON) -> float | tuple[float, float] | None:
    """Return a field of `Faults`. Raises `ValueError` for a value of the wrong form."""
    match value:
        case None if name == "no_url_times":
            return None
        case [int() | float() as low, int() | float() as high] if name == "delay_seconds":
            return low, high
        case int() | float() if value >= 0 and name != "delay_seconds":
            return value
    raise ValueError(f"{name}: {value!r} is not possible")


class FaultInjector:
    """Decides whether a fault strikes: a scripted one-shot first, a seeded draw otherwise."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self._scripted: Counter[tuple[str, str, str]] = Counter()

    def inject(self, vendor: str, operation: str, fault: str, times: int = 1) -> None:
        """Make `fault` strike the next `times` times. Raises `ValueError` where it cannot."""
        if fault not in FAULTS or operation not in FAULTS[fault]["scripted"]:
            raise ValueError(f"{fault} cannot happen on {operation}")
        self._scripted[vendor, operation, fault] += times

    def strikes(self, vendor: str, operation: str, fault: str) -> bool:
        if self._scripted[vendor, operation, fault] > 0:
            self._scripted[vendor, operation, fault] -= 1
            return True
        share: float = getattr(self.faults, fault) if operation in FAULTS[fault]["drawn"] else 0
        return share > 0 and self.rng.random() < share
