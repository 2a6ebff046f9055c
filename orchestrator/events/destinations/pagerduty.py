"""PagerDuty: an incident for what failed, which ends when it is over.

https://developer.pagerduty.com/docs/send-alert-event and
https://developer.pagerduty.com/docs/events-api-v2-overview: 1024 characters for a summary, 255 for
a key, 512 KB in all; 202 if accepted. A retry has the key of the job that it repeats, so its
success resolves the incident; its submission acknowledges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import HttpDestination, Message, Option, Target
from orchestrator.events.http_kinds import post_json
from orchestrator.events.notification import Notification, Severity, notification
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.markup import cut

_SUMMARY_CAP, _URL_CAP = 1000, 2000
_SEVERITIES = {Severity.BAD: "error", Severity.WARNING: "warning"}


class Pagerduty(HttpDestination):
    """An integration of the type Events API v2."""

    kind = "pagerduty"
    example: ClassVar[str] = "https://events.pagerduty.com/v2/enqueue"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    credentials: ClassVar[Mapping[str, Option]] = {
        "routing_key": Option(
            "The integration key of the service.", pattern=r"[A-Za-z0-9_-]{1,128}", required=True
        )
    }

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST that triggers, acknowledges or resolves an incident."""
        note = notification(message)
        action = _action(note)
        body = {
            "routing_key": target.credentials.get("routing_key", ""),
            "event_action": action,
            "dedup_key": note.incident,
            **(_alert(note) if action == "trigger" else {}),
        }
        return post_json(target.address, body)

    def recognizes(self, address: str) -> bool:
        """Return whether it is the Events API, in the US or the EU."""
        return address.startswith(
            ("https://events.pagerduty.com/", "https://events.eu.pagerduty.com/")
        )


def _action(note: Notification) -> str:
    if note.is_over:
        return "resolve"
    is_trouble = note.severity in _SEVERITIES or note.type == "subscriber.test"
    return "trigger" if is_trouble else "acknowledge"


def _alert(note: Notification) -> Mapping[str, Any]:
    about = {"error": note.error, "code": note.error_code, "what_to_do": note.next_step}
    details = {fact.label: fact.value for fact in note.facts} | about | {"meaning": note.meaning}
    links = note.links_within(_URL_CAP)
    picture = note.image_within(_URL_CAP)
    summary = " — ".join(filter(None, (note.title, note.error, note.summary)))
    alert: dict[str, Any] = {
        "client": "orchestrator",
        "links": [{"href": url, "text": label} for label, url in links],
        "images": [{"src": picture}] if picture.startswith("https://") else [],
        "payload": {
            "summary": cut(summary, _SUMMARY_CAP),
            "source": note.about or "orchestrator",
            "severity": _SEVERITIES.get(note.severity, "info"),
            "class": note.type,
            "component": "orchestrator",
            "custom_details": {name: value for name, value in details.items() if value},
        },
    }
    if note.at:
        alert["payload"]["timestamp"] = rfc3339(note.at)
    return alert
