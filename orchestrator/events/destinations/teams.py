"""Microsoft Teams: an Adaptive Card to a Workflows webhook.

https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
and https://adaptivecards.io/explorer/. Texts of callers and vendors are runs of a RichTextBlock,
which has no markup: a TextBlock or a fact has some, and not every client knows its escapes. A
message may have 28 KB. The answer is a 202: the flow posts the card afterwards.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import (
    HttpDestination,
    Message,
    ResponseClass,
    Target,
    classify,
)
from orchestrator.events.http_kinds import post_json
from orchestrator.events.notification import Notification, Severity, notification

Json = dict[str, Any]

_URL_CAP = 2000
_COLOURS = {
    Severity.GOOD: "Good",
    Severity.INFO: "Default",
    Severity.WARNING: "Warning",
    Severity.BAD: "Attention",
}
#: The flow was deleted.
_GONE = frozenset({404, 410})
_OWN = re.compile(
    r"https://[^/]+\.(?:logic\.azure\.com|api\.powerplatform\.com|api\.powerautomate\.com)(?::443)?/"
)


class Teams(HttpDestination):
    """A flow that starts "when a Teams webhook request is received". Its URL is its credential."""

    kind = "teams"
    example: ClassVar[str] = (
        "https://prod-00.westeurope.logic.azure.com/workflows/XXXX/triggers/manual/paths/invoke"
        "?api-version=2016-06-01&sig=XXXX"
    )
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a message with one card."""
        card = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": _card(notification(message)),
        }
        return post_json(target.address, {"type": "message", "attachments": [card]})

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return GONE for a flow that does not exist."""
        status = response.status_code
        return ResponseClass.GONE if status in _GONE else classify(status)

    def recognizes(self, address: str) -> bool:
        """Return whether it starts a flow. Other products start flows too, with the same URL."""
        return _OWN.match(address) is not None and "/workflows/" in address


def _card(note: Notification) -> Json:
    title = _text(note.heading, size="Medium", weight="Bolder", color=_COLOURS[note.severity])
    blocks = [title, _text(note.summary), _text(note.meaning, isSubtle=True)]
    head: list[Json] = [{"type": "Column", "width": "stretch", "items": list(filter(None, blocks))}]
    if picture := note.image_within(_URL_CAP):
        image = {"type": "Image", "url": picture, "size": "Medium", "altText": "Picture of the job"}
        head.append({"type": "Column", "width": "auto", "items": [image]})
    body = [
        {"type": "ColumnSet", "columns": head},
        _table(note),
        _labelled(note.error_code, note.error, color="Attention"),
        _labelled("What to do", note.next_step),
        _text(note.about or "orchestrator", size="Small", isSubtle=True),
        _expiry(note),
    ]
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "fallbackText": note.text,
        "msteams": {"width": "Full"},
        "body": [block for block in body if block],
        "actions": [
            {"type": "Action.OpenUrl", "title": label, "url": url}
            for label, url in note.links_within(_URL_CAP)
        ],
    }


def _table(note: Notification) -> Json | None:
    """Return the facts as a table: unlike a FactSet, it has no markup."""
    rows = [
        {
            "type": "TableRow",
            "cells": [
                {"type": "TableCell", "items": [_text(fact.label, weight="Bolder")]},
                {"type": "TableCell", "items": [_text(fact.value, weight="Default")]},
            ],
        }
        for fact in note.facts
    ]
    widths = [{"width": 1}, {"width": 3}]
    look = {"firstRowAsHeader": False, "showGridLines": False}
    return {"type": "Table", "columns": widths, **look, "rows": rows} if rows else None


def _expiry(note: Notification) -> Json | None:
    """Return when the first link ends, which Teams shows in the reader's time zone."""
    if note.expires_at is None:
        return None
    at = f"{note.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    text = f"Link expires {{{{DATE({at}, SHORT)}}}} {{{{TIME({at})}}}}"
    return {"type": "TextBlock", "text": text, "size": "Small", "isSubtle": True, "spacing": "None"}


def _text(text: str, **style: Any) -> Json | None:
    run = {"type": "TextRun", "text": text, **style}
    return {"type": "RichTextBlock", "inlines": [run]} if text else None


def _labelled(label: str, text: str, **style: Any) -> Json | None:
    if not label or not text:
        return None
    bold = {"type": "TextRun", "text": f"{label}: ", "weight": "Bolder", **style}
    runs = [bold, {"type": "TextRun", "text": text}]
    return {"type": "RichTextBlock", "inlines": runs, "spacing": "Medium"}
