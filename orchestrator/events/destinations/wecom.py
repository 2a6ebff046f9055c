"""WeCom (WeChat Work): a group robot with a Markdown message.

https://developer.work.weixin.qq.com/document/path/91770: 4096 bytes; 20 messages a minute; errors
are 200 with an `errcode`. Its Markdown has no escapes and mentions members by `<@id>`, so
characters of markup are shown by their full-width forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import httpx

from orchestrator.events.destinations import Message, ResponseClass, Target
from orchestrator.events.http_kinds import CodedDestination, post_json
from orchestrator.events.notification import Notification, Severity, notification
from orchestrator.foundation.markup import cut, fitting, full_width, markup_url

#: Bytes of a message, and characters of a text and of a fact in it.
_CAP, _TEXT_CAP, _FACT_CAP = 4096, 200, 60
#: Names of colours that its Markdown has: green, grey and orange.
_COLOURS = {Severity.GOOD: "info", Severity.INFO: "comment"}


class Wecom(CodedDestination):
    """A robot of a group. Its URL is its only credential."""

    kind = "wecom"
    example: ClassVar[str] = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=XXXX"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    code_field: ClassVar[str] = "errcode"
    #: -1: busy. 45009: too many messages. 93000: the robot was removed.
    codes: ClassVar[Mapping[int, ResponseClass]] = {
        -1: ResponseClass.LATER,
        45009: ResponseClass.LATER,
        93000: ResponseClass.GONE,
    }
    limits: ClassVar[Mapping[int, float]] = {45009: 60.0}

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a Markdown message."""
        content = fitting(_lines(notification(message)), _CAP)
        return post_json(target.address, {"msgtype": "markdown", "markdown": {"content": content}})

    def recognizes(self, address: str) -> bool:
        """Return whether it is a robot of WeCom."""
        return address.startswith("https://qyapi.weixin.qq.com/cgi-bin/webhook/")


def _lines(note: Notification) -> list[str]:
    """Return the lines of a message, the most important ones first."""
    colour = _COLOURS.get(note.severity, "warning")
    links = [f"[{label}]({markup_url(url)})" for label, url in note.links]
    error = f"**{_safe(note.error_code)}**: {_safe(note.error)}" if note.error_code else ""
    lines = [
        f'### <font color="{colour}">{_safe(note.heading)}</font>',
        f"> {_safe(note.summary)}" if note.summary else "",
        _safe(note.meaning),
        error,
        *links,
        f"**What to do**: {_safe(note.next_step)}" if note.next_step else "",
        *(f"{fact.label}: {full_width(cut(fact.value, _FACT_CAP))}" for fact in note.facts),
        full_width(note.about),
    ]
    return [line for line in lines if line]


def _safe(text: str) -> str:
    return full_width(cut(text, _TEXT_CAP))
