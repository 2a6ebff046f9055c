"""Telegram: a bot's message to a chat.

https://core.telegram.org/bots/api#sendmessage: 4096 characters after parsing, HTML of a few tags
with `&`, `<` and `>` escaped. The picture is a preview: `sendPhoto` would fail wherever Telegram
cannot fetch it, and so would buttons with an address that it does not like.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import (
    HttpDestination,
    Message,
    Option,
    ResponseClass,
    Target,
    classify,
)
from orchestrator.events.http_kinds import json_answer, post_json, wait_of
from orchestrator.events.notification import Notification, Severity, notification
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.markup import has_public_name

_URL_CAP = 2000
#: The bot was blocked or removed from the chat; its token was revoked, or is none.
_GONE = frozenset({401, 403, 404})


class Telegram(HttpDestination):
    """A chat that a bot writes to. The address is the server's."""

    kind = "telegram"
    example: ClassVar[str] = "https://api.telegram.org"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {
        "chat_id": Option(
            "The chat: a number, or @name of a public channel.",
            pattern=r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}",
            required=True,
        ),
        "topic": Option("The topic (thread) of a forum.", pattern=r"[0-9]{1,15}"),
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "token": Option("The bot's token.", pattern=r"[A-Za-z0-9:_-]{1,256}", required=True)
    }

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the call of `sendMessage`. The token is in its path."""
        note, server = notification(message), target.address.rstrip("/")
        token, thread = target.credentials.get("token", ""), target.options.get("topic")
        body = {
            "chat_id": target.options.get("chat_id", ""),
            **({"message_thread_id": int(thread)} if thread else {}),
            "text": _html(note),
            "parse_mode": "HTML",
            "link_preview_options": _preview(note),
            "disable_notification": note.severity is Severity.INFO,
        }
        return post_json(f"{server}/bot{token}/sendMessage", body)

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return GONE where the bot may not write any more."""
        status = response.status_code
        return ResponseClass.GONE if status in _GONE else classify(status)

    def wait(self, response: httpx.Response) -> float | None:
        """Return `retry_after` of a flood limit."""
        parameters = json_answer(response).get("parameters")
        return wait_of(parameters.get("retry_after")) if isinstance(parameters, dict) else None

    def recognizes(self, address: str) -> bool:
        """Return whether it is Telegram's server."""
        return address.startswith("https://api.telegram.org")

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` for an address that has a token in it."""
        url = httpx.URL(address)
        if "/bot" in url.path or url.query:
            raise ConfigError("give the server alone, and the token in `credentials`")


def _preview(note: Notification) -> Mapping[str, Any]:
    if has_public_name(picture := note.image_within(_URL_CAP)):
        return {"url": picture, "prefer_small_media": True, "show_above_text": False}
    return {"is_disabled": True}


def _html(note: Notification) -> str:
    facts = [f"<b>{escape(label)}</b>: {escape(value)}" for label, value in note.facts]
    links = [f'<a href="{escape(url)}">{label}</a>' for label, url in note.links_within(_URL_CAP)]
    error = f"<b>{escape(note.error_code)}</b>: {escape(note.error)}" if note.error_code else ""
    blocks = (
        (f"<b>{escape(note.heading)}</b>", _quote(note), escape(note.meaning)),
        facts,
        (error, f"<b>What to do</b>: {escape(note.next_step)}" if note.next_step else ""),
        (" · ".join(links), f"<code>{escape(note.about)}</code>" if note.about else ""),
    )
    return "\n\n".join(filter(None, ("\n".join(filter(None, block)) for block in blocks)))


def _quote(note: Notification) -> str:
    return f"<blockquote>{escape(note.summary)}</blockquote>" if note.summary else ""
