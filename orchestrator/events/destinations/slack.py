"""Slack: an incoming webhook with Block Kit messages.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and
https://docs.slack.dev/reference/block-kit/blocks for the limits: 3000 characters for a section,
2000 for a field. Texts of callers and vendors are escaped and marked `verbatim`: a prompt can
neither mention a channel nor become a link. Emphasis has no escapes. An accessory that cannot be
fetched is a broken icon, while an image block would fail the message:
https://github.com/slackapi/java-slack-sdk/issues/1396
"""

from __future__ import annotations

from datetime import datetime
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
from orchestrator.events.notification import Notification, notification
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.markup import plain

Json = dict[str, Any]

#: Slack's limit for the URL of a button or an image.
_URL_CAP = 3000
#: The incoming webhook, its app or its channel was deleted, or may not be posted to.
_GONE = frozenset({403, 404, 410})


class Slack(HttpDestination):
    """An incoming webhook. Its URL is its only credential."""

    kind = "slack"
    example: ClassVar[str] = "https://hooks.slack.com/services/T000/B000/XXXX"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a message about the event; Slack verifies no signatures."""
        return post_json(target.address, _message(notification(message)))

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return GONE for `no_service` and similar errors; `invalid_*` concerns this message."""
        status = response.status_code
        return ResponseClass.GONE if status in _GONE else classify(status)

    def recognizes(self, address: str) -> bool:
        """Return whether it is a webhook of Slack, or of Slack for governments."""
        return address.startswith(("https://hooks.slack.com/", "https://hooks.slack-gov.com/"))


def _message(note: Notification) -> Json:
    quoted = f"\n>{_safe(note.summary)}" if note.summary else ""
    meaning = f"\n{_safe(note.meaning)}" if note.meaning else ""
    head = _section(f"*{_safe(note.heading)}*{quoted}{meaning}")
    if picture := note.image_within(_URL_CAP):
        alt = note.summary or "The picture of the job"
        head["accessory"] = {"type": "image", "image_url": picture, "alt_text": alt}
    fields = [_mrkdwn(f"*{fact.label}*\n{_safe(fact.value)}") for fact in note.facts]
    looks = [{"style": "primary"}, {}]
    buttons = [
        _button(link.label, link.url) | look
        for link, look in zip(note.links_within(_URL_CAP), looks, strict=False)
    ]
    blocks = [head]
    blocks += [{"type": "section", "fields": fields}] if fields else []
    blocks += [_section(text) for text in _details(note)]
    blocks += [{"type": "actions", "elements": buttons}] if buttons else []
    blocks.append({"type": "context", "elements": [_mrkdwn(_footer(note))]})
    return {
        "text": _safe(note.text),
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }


def _details(note: Notification) -> list[str]:
    error = f"*{_safe(note.error_code)}*: {_safe(note.error)}" if note.error_code else ""
    what_next = f"*What to do*: {_safe(note.next_step)}" if note.next_step else ""
    return [text for text in (error, what_next) if text]


def _footer(note: Notification) -> str:
    ends = f"link expires {_date(note.expires_at)}" if note.expires_at else ""
    return " · ".join(filter(None, (_safe(note.about), ends))) or "orchestrator"


def _date(at: datetime) -> str:
    """Return a time that Slack shows in the reader's time zone, with a fallback text."""
    return f"<!date^{epoch_ms(at) // 1000}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def _safe(text: str) -> str:
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(text: str) -> Json:
    return {"type": "section", "text": _mrkdwn(text)}


def _button(label: str, url: str) -> Json:
    text = {"type": "plain_text", "text": label}
    return {
        "type": "button",
        "action_id": label.lower().replace(" ", "_"),
        "text": text,
        "url": url,
    }
