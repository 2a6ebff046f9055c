"""Faults on request: probabilities that may change at any time, and scripted one-shots.

The fields of `Faults` are the one table of faults. Validation, `--help` and the operations that a
fault affects derive from it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Final, NamedTuple, get_type_hints

from orchestrator.simulator.json_body import JSON, JsonObject


class Fault(NamedTuple):
    """Effect, operations its probability is drawn on, further operations of one-shots."""

    meaning: str
    drawn: tuple[str, ...] = ()
    scripted: tuple[str, ...] = ()


SUBMIT: Final = ("submit",)
QUERY: Final = ("query",)
PUSH: Final = ("push",)


@dataclass
class Faults:
    """Probabilities from 0 to 1, drawn per submission, status query or push; and three amounts."""

    drop_push: Annotated[float, Fault("a push is not sent", PUSH)] = 0
    delay_push: Annotated[
        float, Fault("a push is sent after delay_seconds; others may overtake it", PUSH)
    ] = 0
    duplicate_push: Annotated[float, Fault("a push is sent twice", PUSH)] = 0
    reorder_push: Annotated[
        float, Fault("the push of `processing` is sent after the final push", PUSH)
    ] = 0
    push_before_answer: Annotated[
        float, Fault("every push arrives before the submit response", SUBMIT)
    ] = 0
    cut_answer: Annotated[
        float, Fault("an accepted submission gets a connection reset", SUBMIT, QUERY)
    ] = 0
    empty_answer: Annotated[float, Fault("an accepted submission gets an empty object", SUBMIT)] = 0
    refuse_rate: Annotated[float, Fault("a submission is refused with a 429", SUBMIT, QUERY)] = 0
    wrong_key: Annotated[
        float, Fault("a request is refused as if its key were wrong", SUBMIT + QUERY)
    ] = 0
    server_error: Annotated[
        float, Fault("a submission or query fails with a 500", SUBMIT + QUERY)
    ] = 0
    server_error_accepted: Annotated[float, Fault("an accepted submission gets a 504", SUBMIT)] = 0
    no_url: Annotated[
        float, Fault("a success lacks its URL the first no_url_times times", SUBMIT, QUERY + PUSH)
    ] = 0
    forged_push: Annotated[
        float, Fault("an unsigned push with a false token and URL precedes a push", PUSH)
    ] = 0
    stale_push: Annotated[
        float, Fault("a signed push has a timestamp of ten minutes ago", PUSH)
    ] = 0
    fail_render: Annotated[float, Fault("a render ends in failure", SUBMIT)] = 0
    keyed_content: Annotated[
        float, Fault("a clip is served only with the key, where a vendor can do that", SUBMIT)
    ] = 0
    unknown_word: Annotated[
        float, Fault("a render shows an undocumented status", SUBMIT, QUERY + PUSH)
    ] = 0
    odd_shapes: Annotated[
        float, Fault("an answer or push has another shape, equal in meaning", SUBMIT + QUERY + PUSH)
    ] = 0
    delay_seconds: Annotated[
        tuple[float, float], Fault("least and greatest delay of delay_push, in seconds")
    ] = (0.5, 2.0)
    no_url_times: Annotated[
        int | None, Fault("responses and pushes without URL under no_url; null: all")
    ] = 2
    visibility_lag: Annotated[
        float, Fault("seconds for which status queries do not find a new render")
    ] = 0

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


FAULTS: Final[dict[str, Fault]] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Faults, include_extras=True).items()
}


def describe_faults() -> str:
    """Return one line for each fault: its name, what it does, and its default if that is not 0."""
    lines = []
    for name, default in Faults().to_json().items():
        suffix = f" (default: {json.dumps(default)})" if default else ""
        lines.append(f"  {name:<22} {FAULTS[name].meaning}{suffix}")
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
        found = FAULTS.get(fault)
        if found is None or operation not in found.drawn + found.scripted:
            raise ValueError(f"{fault} cannot happen on {operation}")
        self._scripted[vendor, operation, fault] += times

    def strikes(self, vendor: str, operation: str, fault: str) -> bool:
        if self._scripted[vendor, operation, fault] > 0:
            self._scripted[vendor, operation, fault] -= 1
            return True
        share: float = getattr(self.faults, fault) if operation in FAULTS[fault].drawn else 0
        return share > 0 and self.rng.random() < share
