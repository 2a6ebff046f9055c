"""Slack: an incoming webhook, spoken to in Block Kit.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and
https://docs.slack.dev/reference/block-kit/blocks for the limits. Whatever a caller or a vendor wrote is escaped and
marked `verbatim`: a prompt can neither mention a channel nor become a link.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import httpx

from orchestrator import __version__
from orchestrator.events.destinations import Destination, Message, ResponseClass, classify, post
from orchestrator.foundation.clock import epoch_ms

Json = dict[str, Any]

#: Slack's limit for the URL of a button or an image.
_URL_CAP = 3000
#: Ours, before escaping makes five characters of one: far below Slack's 3000 for a section and 2000 for a field.
_TEXT_CAP = 400
_FIELD_CAP = 120

_TITLES = {
    "job.submitted": "📤 Video submitted",
    "job.processing": "⏳ Video in the making",
    "job.succeeded": "✅ Video ready",
    "job.failed": "❌ Video failed",
    "job.canceled": "🚫 Video canceled",
    "job.expired": "⌛ Video expired",
    "subscriber.disabled": "⚠️ Subscriber switched off",
    "account.push_degraded": "⚠️ Pushes have stopped",
    "account.push_recovered": "✅ Pushes are back",
    "subscriber.test": "👋 Test event",
}
#: The incoming webhook, its app or its channel is no more, or may not be posted to.
_GONE = frozenset({403, 404, 410})


class Slack(Destination):
    """An incoming webhook. Its URL is its only credential."""

    kind = "slack"
    secret_address: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    def request(self, address: str, message: Message, keys: Sequence[str]) -> httpx.Request:
        """Return the POST of a message about the event; Slack knows no signatures."""
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": f"orchestrator/{__version__}",
        }
        return post(address, headers, json.dumps(_message(message)).encode())

    def judge(self, response: httpx.Response) -> ResponseClass:
        """Return what an answer means: `no_service` and its like are for good, `invalid_*` is about this message."""
        return (
            ResponseClass.GONE if response.status_code in _GONE else classify(response.status_code)
        )


def _message(message: Message) -> Json:
    data = message.data.get("data")
    about = data if isinstance(data, Mapping) else {}
    title = _TITLES.get(message.type) or _safe(message.type, _FIELD_CAP)
    blocks = _job(title, about) if message.type.startswith("job.") else _notice(title, about)
    summary = " — ".join(filter(None, (title, _safe(_gist(about), _TEXT_CAP))))
    return {"text": summary, "unfurl_links": False, "unfurl_media": False, "blocks": blocks}


def _gist(about: Mapping[str, Any]) -> str:
    """Return the few words that tell this event from its neighbours."""
    given = about.get("input")
    prompt = given.get("prompt") if isinstance(given, Mapping) else None
    return _word(prompt or about.get("disabled_reason") or about.get("name") or about.get("id"))


def _notice(title: str, about: Mapping[str, Any]) -> list[Json]:
    facts = [
        ("Name", about.get("name")),
        ("Kind", about.get("kind")),
        ("Address", about.get("url")),
    ]
    facts += [("Reason", about.get("disabled_reason")), ("Id", about.get("id"))]
    return [_section(f"*{title}*"), *_fields(facts)]


def _job(title: str, job: Mapping[str, Any]) -> list[Json]:
    video, image = _first(job, "videos"), _first(job, "images")
    quoted = _safe(_gist(job), _TEXT_CAP)
    head = _section(f"*{title}*\n>{quoted}" if quoted else f"*{title}*")
    if picture := _link(image.get("url")):
        alt = _word((job.get("input") or {}).get("prompt"))[:_TEXT_CAP] or "The first image"
        head["accessory"] = {"type": "image", "image_url": picture, "alt_text": alt}
    facts = [("Model", job.get("model")), ("Vendor", job.get("vendor"))]
    facts += [("Length", _length(job, video)), ("Took", _took(job))]
    links = job.get("links") or {}
    buttons = [_button("open_video", "Watch video", video.get("url"), style="primary")]
    buttons += [_button("open_timeline", "Timeline", links.get("timeline"))]
    actions = [button for button in buttons if button]
    return [
        head,
        *_fields(facts),
        *_failure(job),
        *([{"type": "actions", "elements": actions}] if actions else []),
        _footer(job, video),
    ]


def _failure(job: Mapping[str, Any]) -> list[Json]:
    error = job.get("error")
    if not isinstance(error, Mapping):
        return []
    return [
        _section(
            f"*{_safe(error.get('code'), _FIELD_CAP)}*: {_safe(error.get('message'), _TEXT_CAP)}"
        )
    ]


def _footer(job: Mapping[str, Any], video: Mapping[str, Any]) -> Json:
    said = [_safe(job.get("id"), _FIELD_CAP)]
    if ends := _instant(video.get("expires_at")):
        said.append(f"link expires {_date(ends)}")
    return {"type": "context", "elements": [_mrkdwn(" · ".join(said) or "orchestrator")]}


def _first(job: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    output = job.get("output")
    made = output.get(kind) if isinstance(output, Mapping) else None
    return made[0] if made else {}


def _length(job: Mapping[str, Any], video: Mapping[str, Any]) -> str:
    seconds, size = video.get("duration"), (job.get("input") or {}).get("resolution")
    return " · ".join(filter(None, (f"{seconds:g} s" if seconds is not None else "", _word(size))))


def _took(job: Mapping[str, Any]) -> str:
    begun, ended = _instant(job.get("created_at")), _instant(job.get("finished_at"))
    if begun is None or ended is None:
        return ""
    minutes, seconds = divmod(round((ended - begun).total_seconds()), 60)
    spent = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{spent} ({_word(job.get('resolved_by'))})"


def _instant(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _date(at: datetime) -> str:
    """Return a time that Slack shows in the reader's own zone, and the words for where it cannot."""
    return f"<!date^{epoch_ms(at) // 1000}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def _word(value: Any) -> str:
    """Return a value as one line of text."""
    return "" if value is None else " ".join(str(value).split())


def _safe(value: Any, cap: int) -> str:
    """Return foreign text as one line, cut, and then escaped, so that no escape is cut in half."""
    text = _word(value)
    cut = text if len(text) <= cap else text[: cap - 1] + "…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(text: str) -> Json:
    return {"type": "section", "text": _mrkdwn(text)}


def _fields(facts: Sequence[tuple[str, Any]]) -> list[Json]:
    said = [
        _mrkdwn(f"*{label}*\n{_safe(value, _FIELD_CAP)}") for label, value in facts if _word(value)
    ]
    return [{"type": "section", "fields": said}] if said else []


def _link(url: Any) -> str | None:
    """Return a URL that Slack takes."""
    fits = isinstance(url, str) and url.startswith(("https://", "http://")) and len(url) <= _URL_CAP
    return url if fits else None


def _button(action: str, label: str, url: Any, **look: str) -> Json | None:
    if (target := _link(url)) is None:
        return None
    return {
        "type": "button",
        "action_id": action,
        "text": {"type": "plain_text", "text": label},
        "url": target,
        **look,
    }
