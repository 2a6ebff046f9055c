"""DingTalk: a custom robot with an ActionCard, or Markdown where there is no link.

https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages and
https://open.dingtalk.com/document/orgapp/customize-robot-security-settings: 20 messages a minute,
then none for ten minutes; errors are 200 with an `errcode`; a message may have 20 KB. Its Markdown
has no escapes, so characters of markup are shown by their full-width forms. A mention needs the
field `at`. A robot that asks for a keyword can use `orchestrator`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import Message, Option, ResponseClass, Target
from orchestrator.events.http_kinds import CodedDestination, post_json
from orchestrator.events.notification import Notification, notification
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.markup import full_width, markup_url

_URL_CAP = 2000
#: A robot that sends too many messages is silent for ten minutes.
_LIMITED = (130101, 410100, 660026)
#: The robot was removed from its group.
_REMOVED = (300001, 300005)


class Dingtalk(CodedDestination):
    """A custom robot of a group. Its URL is a credential, and so is the secret that signs."""

    kind = "dingtalk"
    example: ClassVar[str] = "https://oapi.dingtalk.com/robot/send?access_token=XXXX"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    code_field: ClassVar[str] = "errcode"
    codes: ClassVar[Mapping[int, ResponseClass]] = {
        **dict.fromkeys((-1, *_LIMITED), ResponseClass.LATER),
        **dict.fromkeys(_REMOVED, ResponseClass.GONE),
    }
    limits: ClassVar[Mapping[int, float]] = dict.fromkeys(_LIMITED, 600.0)
    credentials: ClassVar[Mapping[str, Option]] = {
        "secret": Option("The robot's signing secret (SEC...), if its signature is on.")
    }

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a card, with time and signature in the query if there is a secret."""
        signed = _signature(target.credentials.get("secret"), message.at)
        address = target.address
        if signed:
            address = str(httpx.URL(address).copy_merge_params(signed))
        return post_json(address, _message(notification(message)))

    def recognizes(self, address: str) -> bool:
        """Return whether it is a robot of DingTalk."""
        return address.startswith("https://oapi.dingtalk.com/robot/")


def _signature(secret: str | None, at: datetime) -> dict[str, str]:
    if secret is None:
        return {}
    timestamp = str(epoch_ms(at))
    digest = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()
    return {"timestamp": timestamp, "sign": base64.b64encode(digest).decode()}


def _message(note: Notification) -> dict[str, Any]:
    title, text = full_width(note.heading), _markdown(note)
    links = note.links_within(_URL_CAP)
    if not links:
        content = {"title": title, "text": text}
        return {"msgtype": "markdown", "markdown": content, "at": {"isAtAll": False}}
    buttons = [{"title": label, "actionURL": url} for label, url in links]
    card = {"title": title, "text": text, "btnOrientation": "1", "btns": buttons}
    return {"msgtype": "actionCard", "actionCard": card}


def _markdown(note: Notification) -> str:
    facts = [f"- **{fact.label}**: {full_width(fact.value)}" for fact in note.facts]
    error = f"**{full_width(note.error_code)}**: {full_width(note.error)}"
    picture = note.image_within(_URL_CAP)
    parts = (
        f"### {full_width(note.heading)}",
        f"> {full_width(note.summary)}" if note.summary else "",
        f"![picture]({markup_url(picture)})" if picture else "",
        full_width(note.meaning),
        "\n".join(facts),
        error if note.error_code else "",
        f"**What to do**: {full_width(note.next_step)}" if note.next_step else "",
        " · ".join(filter(None, ("orchestrator", full_width(note.about)))),
    )
    return "\n\n".join(filter(None, parts))
