"""Whether a subscriber receives an event, and why: its types, its filter and its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.events.filter_explanation import Failure, first_failure
from orchestrator.events.filters import MISSING
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import SubscriberState

#: Characters of a value in a sentence.
_SHOWN = 100


class Explanation(NamedTuple):
    """`pointer` is the JSON pointer into the filter to the first condition that fails."""

    matches: bool
    reason: str
    pointer: str | None = None


def explain(row: SubscriberRow, body: Mapping[str, Any]) -> Explanation:
    """Return whether an event with this body is delivered to a subscriber, and why."""
    kind, globs = body.get("type"), tuple(row["types"])
    if not isinstance(kind, str):
        return Explanation(False, "The body has no `type`, which the subscriber's types match.")
    if not matches(globs, kind):
        return Explanation(False, f"None of its types ({', '.join(globs)}) matches `{kind[:64]}`.")
    data = body.get("data")
    about = data.get("id") if isinstance(data, dict) else None
    if kind.startswith("subscriber.") and about == row["id"]:
        return Explanation(False, "Events about a subscriber are delivered to the others.")
    if row["filter"] is not None and (failure := first_failure(row["filter"], body)):
        return Explanation(False, _sentence(failure), failure.pointer)
    met = "Its types match" if row["filter"] is None else "Its types and its filter match"
    return Explanation(True, f"{met}. {_STATES[SubscriberState(row['state'])]}")


_STATES: Mapping[SubscriberState, str] = {
    SubscriberState.ACTIVE: "The event is delivered.",
    SubscriberState.PAUSED: "The subscriber is paused: the delivery is held until it is resumed.",
    SubscriberState.DISABLED: "The subscriber is disabled: the delivery is held until it is "
    "resumed.",
}


def _sentence(failure: Failure) -> str:
    found = "the field is missing" if failure.value is MISSING else f"it is {_json(failure.value)}"
    where = f"at `{failure.pointer}`" if failure.pointer else "as a whole"
    return f"The filter does not match {where}: {_json(failure.condition)} is wanted, and {found}."


def _json(value: Any) -> str:
    text = encode(value).decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
