"""The columns and the fields of a subscriber, as commands display them."""

from __future__ import annotations

import json

from orchestrator.cli.columns import Table
from orchestrator.cli.terminal import Record, moment
from orchestrator.foundation.states import FINAL_EVENTS
from orchestrator.schemas import CallbackHealth, Subscriber

TABLE = Table(
    Subscriber,
    "id",
    "kind",
    "status",
    "url",
    ("types", lambda sub: _types(sub, ",")),
    "description",
    first=("id", "status", "url", "types"),
)


def _types(subscriber: Subscriber, separator: str) -> str:
    final = {*subscriber.types} == {*FINAL_EVENTS}
    return "final ones" if final else separator.join(subscriber.types)


def callback_words(callbacks: CallbackHealth) -> str:
    """Return how many callback URLs of a host fail, and how."""
    addresses = "1 address" if callbacks.failing == 1 else f"{callbacks.failing} addresses"
    return f"{addresses}, {callbacks.failures} failed attempts, last: {callbacks.last_error}"


def shown(subscriber: Subscriber) -> Record:
    """Return the fields of a subscriber to display, in order."""
    reason, failing = subscriber.disabled_reason, subscriber.failing_since
    callbacks, retry = subscriber.callbacks, subscriber.retry
    return {
        "id": subscriber.id,
        "kind": subscriber.kind,
        "status": subscriber.status + (f": {reason}" if reason else ""),
        "failing since": moment(failing) if failing else None,
        "failing": callback_words(callbacks) if callbacks and callbacks.failing else None,
        "types": ", ".join(subscriber.types),
        "url": subscriber.url,
        "description": subscriber.description,
        "options": ", ".join(f"{name}={value}" for name, value in subscriber.options.items()),
        "credentials": ", ".join(subscriber.credentials or []),
        "per second": subscriber.rate_limit,
        "at once": subscriber.max_in_flight,
        "retried after": ", ".join(map(str, retry.schedule)) if retry and retry.schedule else None,
        "attempt, s": retry.deadline if retry else None,
        "dead at": ", ".join(map(str, retry.final_statuses or [])) if retry else None,
        "ordered": "yes" if subscriber.ordered else None,
        "filter": json.dumps(subscriber.filter) if subscriber.filter is not None else None,
    }
