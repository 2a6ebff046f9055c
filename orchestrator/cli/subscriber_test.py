"""A test event and what became of it: the first try says whether a subscriber is there."""

from __future__ import annotations

import time

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record

#: A try may take 15 seconds, and a subscriber with a rate of its own may let it wait before that.
PATIENCE = 25.0
#: Seconds between looks.
_LOOKS = 0.1


def tried(client: Client, event: str, patience: float = PATIENCE) -> Record:
    """Return the delivery of a test event, its attempts too, once it was tried or will not be.

    Raises `Failure` (exit 7) if that takes too long.
    """
    ends = time.monotonic() + patience
    while True:
        owed: list[Record] = client.get("/v1/deliveries", event=event, limit=1)["data"]
        if owed and (owed[0]["tries"] or owed[0]["status"] != "pending"):
            found: Record = client.get(f"/v1/deliveries/{owed[0]['id']}")
            return found
        if time.monotonic() >= ends:
            hint = f"`orchestrator deliveries ls --event {event}` shows it; is a process with role worker running?"
            raise Failure(
                f"the test was not tried within {patience:g} s", hint=hint, code=Exit.WAIT_TIMED_OUT
            )
        time.sleep(_LOOKS)


def outcome(delivery: Record) -> str:
    """Return what became of a delivery, in words."""
    attempts = delivery.get("attempts") or []
    took = f" in {attempts[-1]['ms']} ms" if attempts else ""
    answered = f"answered {delivery['last_status']}" if delivery["last_status"] else ""
    error = str(delivery["last_error"] or "")
    if delivery["status"] == "delivered":
        return f"delivered: {answered or 'taken'}{took}"
    if delivery["status"] == "held":
        return "held: the subscriber is paused or disabled"
    why = ", ".join(word for word in (answered, error) if word)
    said = (attempts[-1]["response"] or "").strip() if attempts else ""
    return f"{delivery['status']}: {why or 'not tried yet'}{took}" + (
        f": {said[:200]}" if said else ""
    )
