"""Discord: an incoming webhook with an embed.

https://discord.com/developers/docs/resources/webhook#execute-webhook, and for the limits
https://discord.com/developers/docs/resources/message#embed-object-embed-limits: 256 characters for
a title, 4096 for a description, 6000 in all. A URL that it finds malformed fails the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import (
    HttpDestination,
    Message,
    ResponseClass,
    Target,
    classify,
)
from orchestrator.events.http_kinds import json_answer, post_json, wait_of
from orchestrator.events.notification import Notification, Severity, notification
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.markup import cut, has_public_name, markup_url

#: Characters of a URL in a field of its own, and of one within the text.
_URL_CAP, _SHORT_URL = 2048, 400
_TITLE_CAP = 120
_COLOURS = {
    Severity.GOOD: 0x2DA44E,
    Severity.INFO: 0x5865F2,
    Severity.WARNING: 0xD29922,
    Severity.BAD: 0xCF222E,
}
#: What Discord reads as markup, a mention, an emoji or a link.
_MARKUP = re.compile(r"([\\`*_~|>#<@:\[\]()\-+.!])")
#: The webhook was deleted, or its token is no longer valid.
_GONE = frozenset({401, 404, 410})
_OWN = ("https://discord.com/", "https://discordapp.com/", "https://ptb.discord.com/")


class Discord(HttpDestination):
    """An incoming webhook. Its URL is its only credential."""

    kind = "discord"
    example: ClassVar[str] = "https://discord.com/api/webhooks/1234567890/XXXX"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return a POST that is answered once the message is stored, and that mentions no one."""
        url = httpx.URL(target.address)
        note = notification(message)
        body = {"embeds": [_embed(note)], "allowed_mentions": {"parse": []}}
        return post_json(str(url.copy_merge_params({"wait": "true"})), body)

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return GONE for an unknown webhook or an invalid token."""
        status = response.status_code
        return ResponseClass.GONE if status in _GONE else classify(status)

    def wait(self, response: httpx.Response) -> float | None:
        """Return `retry_after` of a rate limit."""
        return wait_of(json_answer(response).get("retry_after"))

    def recognizes(self, address: str) -> bool:
        """Return whether it is a webhook of Discord."""
        return address.startswith(_OWN) and "/webhooks/" in address

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` for a page of Discord, such as the channel's."""
        if address.startswith(_OWN) and "/webhooks/" not in address:
            raise ConfigError("this is no webhook: copy its URL from the channel's integrations")


def _embed(note: Notification) -> Mapping[str, Any]:
    links = [f"[{label}]({markup_url(url)})" for label, url in note.links_within(_SHORT_URL)]
    error = f"**{_safe(note.error_code)}**: {_safe(note.error)}" if note.error_code else ""
    parts = (
        f"> {_safe(note.summary)}" if note.summary else "",
        _safe(note.meaning),
        error,
        f"**What to do**: {_safe(note.next_step)}" if note.next_step else "",
        " · ".join(links),
    )
    embed: dict[str, Any] = {
        "title": f"{note.icon} {_safe(cut(note.title, _TITLE_CAP))}",
        "description": "\n".join(filter(None, parts)),
        "color": _COLOURS[note.severity],
        "fields": [
            {"name": fact.label, "value": _safe(fact.value), "inline": True} for fact in note.facts
        ],
        "footer": {"text": note.about or "orchestrator"},
    }
    if (found := note.links_within(_URL_CAP)) and has_public_name(found[0].url):
        embed["url"] = found[0].url
    if has_public_name(picture := note.image_within(_URL_CAP)):
        embed["thumbnail"] = {"url": picture}
    if note.at:
        embed["timestamp"] = rfc3339(note.at)
    return embed


def _safe(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
