"""The columns and the fields of a subscriber, as commands display them."""

from __future__ import annotations

import json

from orchestrator.cli.columns import Table
from orchestrator.cli.terminal import Record, moment
from orchestrator.foundation.durations import span
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
    callbacks = subscriber.callbacks
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
        **_retries(subscriber),
        "ordered": "yes" if subscriber.ordered else None,
        "filter": json.dumps(subscriber.filter) if subscriber.filter is not None else None,
    }


def _retries(subscriber: Subscriber) -> Record:
    """Return the retry policy in force, and of each part whether it is the subscriber's own."""
    policy, own = subscriber.retry_in_force, subscriber.retry
    if policy is None:
        return {}
    waits = ", ".join(map(span, policy.schedule))
    parts = {
        "retried after": ("schedule", waits),
        "attempt": ("deadline", f"up to {span(policy.deadline)}"),
        "dead at": ("final_statuses", ", ".join(map(str, policy.final_statuses)) or "no status"),
    }
    return {
        label: f"{text} ({'its own' if getattr(own, field, None) is not None else 'the default'})"
        for label, (field, text) in parts.items()
    }
