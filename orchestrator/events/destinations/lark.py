"""Lark and Feishu: a custom bot with an interactive card.

https://open.larkoffice.com/document/ukTMukTMukTM/ucTM5YjL3ETO24yNxkjN: a request may have 20 KB;
100 messages a minute, 5 a second; errors are 200 with a `code`. Long texts are `plain_text`, which
has no markup; where there is markup, its characters are written as entities. A bot that asks for a
keyword can use `orchestrator`. A picture would have to be uploaded by an app, so there is none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import Message, Option, ResponseClass, Target
from orchestrator.events.http_kinds import CodedDestination, post_json
from orchestrator.events.notification import Notification, Severity, notification

Json = dict[str, Any]

_URL_CAP = 2000
_COLOURS = {
    Severity.GOOD: "green",
    Severity.INFO: "blue",
    Severity.WARNING: "orange",
    Severity.BAD: "red",
}
_MARKUP = re.compile(r"[&<>~\-!*/\\\[\]()#:+\"'`$_@|{}]")
_OWN = ("https://open.feishu.cn/", "https://open.larksuite.com/", "https://open.larkoffice.com/")


class Lark(CodedDestination):
    """A custom bot of a group. Its URL is a credential, and so is the secret that signs."""

    kind = "lark"
    example: ClassVar[str] = "https://open.feishu.cn/open-apis/bot/v2/hook/XXXX"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    code_field: ClassVar[str] = "code"
    #: 11232, 99991400: too many messages. 19001: the bot was removed from its group.
    codes: ClassVar[Mapping[int, ResponseClass]] = {
        11232: ResponseClass.LATER,
        99991400: ResponseClass.LATER,
        19001: ResponseClass.GONE,
    }
    limits: ClassVar[Mapping[int, float]] = {11232: 15.0, 99991400: 60.0}
    credentials: ClassVar[Mapping[str, Option]] = {
        "secret": Option("The bot's signing secret, if its signature verification is on.")
    }

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a card, signed if there is a secret."""
        signed = _signature(target.credentials.get("secret"), message.at)
        card = _card(notification(message))
        return post_json(target.address, {**signed, "msg_type": "interactive", "card": card})

    def recognizes(self, address: str) -> bool:
        """Return whether it is a bot of Feishu or of Lark."""
        return address.startswith(_OWN) and "/bot/" in address


def _signature(secret: str | None, at: datetime) -> Json:
    if secret is None:
        return {}
    timestamp = str(int(at.timestamp()))
    # The text that others sign is the key here, and what is signed is empty.
    digest = hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
    return {"timestamp": timestamp, "sign": base64.b64encode(digest).decode()}


def _card(note: Notification) -> Json:
    fields = [
        {"is_short": True, "text": _text("lark_md", f"**{fact.label}**\n{_safe(fact.value)}")}
        for fact in note.facts
    ]
    error = f"{note.error_code}: {note.error}" if note.error_code else ""
    what_next = f"What to do: {note.next_step}" if note.next_step else ""
    buttons = [
        {"tag": "button", "text": _text("plain_text", label), "url": url, "type": look}
        for (label, url), look in zip(
            note.links_within(_URL_CAP), ("primary", "default"), strict=False
        )
    ]
    footer = " · ".join(filter(None, ("orchestrator", note.about)))
    elements: list[Json | None] = [
        _div(note.summary),
        _div(note.meaning),
        {"tag": "div", "fields": fields} if fields else None,
        _div(error),
        _div(what_next),
        {"tag": "action", "actions": buttons} if buttons else None,
        {"tag": "note", "elements": [_text("plain_text", footer)]},
    ]
    return {
        "config": {"wide_screen_mode": True},
        "header": {"title": _text("plain_text", note.heading), "template": _COLOURS[note.severity]},
        "elements": [element for element in elements if element],
    }


def _text(tag: str, content: str) -> Json:
    return {"tag": tag, "content": content}


def _div(content: str) -> Json | None:
    return {"tag": "div", "text": _text("plain_text", content)} if content else None


def _safe(text: str) -> str:
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)
