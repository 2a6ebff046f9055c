"""A test event and its first attempt, which shows whether a subscriber answers."""

from __future__ import annotations

import time

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.lookup import DELIVERY
from orchestrator.cli.terminal import Record
from orchestrator.schemas import Delivery, Subscriber, TriedDelivery

#: Seconds: by default an attempt takes up to 15, after a wait if the subscriber has a rate limit.
PATIENCE = 25.0
#: Seconds between reads of the delivery.
_LOOKS = 0.1
#: Characters of a body that are displayed.
_LONGEST = 4000


def patience_for(subscriber: Subscriber) -> float:
    """Return the seconds to wait for a first attempt, which may have a deadline of its own."""
    own = subscriber.retry.deadline if subscriber.retry else None
    return PATIENCE + (own or 0.0)


def first_attempt(client: Client, event: str, patience: float = PATIENCE) -> TriedDelivery:
    """Return the delivery of a test event after its first attempt, or held.

    Raises `Failure` (exit 7) after `patience` seconds.
    """
    ends = time.monotonic() + patience
    while True:
        deliveries = client.get(DELIVERY.page, DELIVERY.path, event=event, limit=1).data
        if deliveries and (deliveries[0].tries or deliveries[0].status != "pending"):
            return client.get(TriedDelivery, f"{DELIVERY.path}/{deliveries[0].id}")
        if time.monotonic() >= ends:
            raise Failure(
                f"the test was not tried within {patience:g} s",
                hint=f"`orchestrator deliveries ls --event {event}` shows it;"
                " is a process with role worker running?",
                code=Exit.WAIT_TIMED_OUT,
            )
        time.sleep(_LOOKS)


def exchange(delivery: TriedDelivery) -> Record:
    """Return what was sent and what was answered, to display. Secrets in it are masked."""
    sent, attempts = delivery.request, delivery.attempts
    response = (attempts[-1].response or "").strip() if attempts else ""
    request: Record = {}
    if sent is not None and attempts:
        cut = sent.truncated or len(sent.body) > _LONGEST
        request = {
            "sent": f"{sent.method} {sent.url}",
            "to": sent.to,
            "headers": [f"{name}: {value}" for name, value in sent.headers.items()],
            "body": sent.body[:_LONGEST] + ("…" if cut else ""),
        }
    return {
        "delivery": delivery.id,
        **request,
        "answered": response[:_LONGEST],
        "outcome": outcome(delivery),
    }


def outcome(delivery: Delivery) -> str:
    """Return a delivery's result as text."""
    attempts = delivery.attempts if isinstance(delivery, TriedDelivery) else []
    last = attempts[-1] if attempts else None
    took = f" in {last.ms} ms" if last else ""
    answered = f"answered {delivery.last_status}" if delivery.last_status else ""
    if delivery.status == "delivered":
        return f"delivered: {answered or 'accepted'}{took}"
    if delivery.status == "held":
        return "held: the subscriber is paused or disabled"
    why = ", ".join(filter(None, (answered, delivery.last_error)))
    response = (last.response or "").strip()[:200] if last else ""
    return f"{delivery.status}: {why or 'not tried yet'}{took}" + (
        f": {response}" if response else ""
    )
