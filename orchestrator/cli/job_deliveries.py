"""The deliveries of a job's events, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Failure
from orchestrator.cli.lookup import DELIVERY
from orchestrator.cli.terminal import counted, moment
from orchestrator.foundation.states import FINAL_STATUS
from orchestrator.schemas import Delivery

#: The newest events that are read, and deliveries of each.
_EVENTS, _DELIVERIES = 5, 20


def owed(client: Client, events: Sequence[str]) -> list[str]:
    """Return a line for each delivery of the newest events; none if the server does not answer."""
    lines: list[str] = []
    for event in events[-_EVENTS:]:
        try:
            page = client.get(DELIVERY.page, DELIVERY.path, event=event, limit=_DELIVERIES)
        except Failure:
            return []
        lines += map(_line, page.data)
        if page.has_more:
            lines.append(f"more: orchestrator deliveries ls --event {event}")
    return lines


def is_ended_by_status(delivery: Delivery) -> bool:
    """True if the last answer had a status that the retry policy makes final."""
    return (delivery.last_error or "").startswith(FINAL_STATUS)


def answer(delivery: Delivery) -> str:
    """Return `503`, `404 (a final status)` or, without an answer, the error; empty if not tried."""
    final = " (a final status)" if is_ended_by_status(delivery) else ""
    return f"{delivery.last_status or delivery.last_error or ''}{final}"


def _line(delivery: Delivery) -> str:
    """Return `dlv_... pending, job.failed to my.app: 503 after 2 tries, next try 2026-...`."""
    where = f"{delivery.event_type} to {delivery.host or delivery.subscriber}"
    tries = counted(delivery.tries, "try", "tries")
    answered = answer(delivery)
    parts = [f"{answered} after {tries}" if answered else "not tried yet"]
    if wait := _wait(delivery):
        parts.append(wait)
    return f"{delivery.id} {delivery.status}, {where}: {', '.join(parts)}"


def _wait(delivery: Delivery) -> str:
    """Return what a delivery waits for; empty if it is not owed."""
    wait, due = delivery.waiting, delivery.next_attempt_at
    match wait.reason if wait else "":
        case "paused" | "disabled" as state:
            return f"its subscriber is {state}"
        case "queued":
            return "waits for a free slot of its subscriber"
        case _:
            at = (wait.until if wait else None) or due
            return f"next try {moment(at)}" if at else ""
