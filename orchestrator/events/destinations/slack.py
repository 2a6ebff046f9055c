"""Slack: an incoming webhook with Block Kit messages.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and
https://docs.slack.dev/reference/block-kit/blocks for the limits. Texts of callers and vendors are
escaped and marked `verbatim`: a prompt can neither mention a channel nor become a link.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import httpx

from orchestrator import __version__
from orchestrator.events.destinations import (
    HttpDestination,
    Message,
    ResponseClass,
    Target,
    classify,
    post,
)
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.untrusted import one_line

Json = dict[str, Any]

#: Slack's limit for the URL of a button or an image.
_URL_CAP = 3000
#: Our limits, before escaping makes one character five: far below Slack's 3000 for a section and
#: 2000 for a field.
_TEXT_CAP = 400
_FIELD_CAP = 120

_TITLES = {
    "job.submitted": "📤 Video submitted",
    "job.processing": "⏳ Video in the making",
    "job.succeeded": "✅ Video ready",
    "job.failed": "❌ Video failed",
    "job.canceled": "🚫 Video canceled",
    "job.expired": "⌛ Video expired",
    "job.stuck": "⚠️ The vendor does not know the task",
    "subscriber.failing": "⚠️ Deliveries to {url} fail; they are retried",
    "subscriber.recovered": "✅ Deliveries to {url} arrive again",
    "subscriber.disabled": "⚠️ Subscriber switched off",
    "account.paused": "⏸️ The vendor limits submissions of account {name}; its jobs wait",
    "account.unauthorized": "⛔ The vendor refuses the key of account {name}; its jobs wait",
    "account.exhausted": "⛔ The balance of account {name} is used up; its jobs wait",
    "account.recovered": "✅ The vendor accepts jobs of account {name} again",
    "account.push_degraded": "⚠️ Pushes have stopped",
    "account.push_recovered": "✅ Pushes are back",
    "subscriber.test": "👋 Test event",
}
#: The incoming webhook, its app or its channel was deleted, or may not be posted to.
_GONE = frozenset({403, 404, 410})


class Slack(HttpDestination):
    """An incoming webhook. Its URL is its only credential."""

    kind = "slack"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a message about the event; Slack verifies no signatures."""
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": f"orchestrator/{__version__}",
        }
        return post(target.address, headers, json.dumps(_message(message)).encode())

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return GONE for `no_service` and similar errors; `invalid_*` concerns this message."""
        status = response.status_code
        return ResponseClass.GONE if status in _GONE else classify(status)


def _message(message: Message) -> Json:
    data = message.data.get("data")
    about = data if isinstance(data, Mapping) else {}
    names = {key: _safe(about.get(key), _FIELD_CAP) for key in ("name", "url")}
    title = _TITLES.get(message.type, "").format(**names) or _safe(message.type, _FIELD_CAP)
    is_job = message.type.startswith("job.")
    blocks = _job(title, about, message.job_page) if is_job else _notice(title, about)
    summary = " — ".join(filter(None, (title, _safe(_summary(about), _TEXT_CAP))))
    return {"text": summary, "unfurl_links": False, "unfurl_media": False, "blocks": blocks}


def _summary(about: Mapping[str, Any]) -> str:
    """Return a few words that distinguish this event from others."""
    given = about.get("input")
    prompt = given.get("prompt") if isinstance(given, Mapping) else None
    words = about.get("disabled_reason") or about.get("message")
    return one_line(prompt or words or about.get("name") or about.get("id"))


def _notice(title: str, about: Mapping[str, Any]) -> list[Json]:
    keys = {
        "Name": "name",
        "Kind": "kind",
        "Address": "url",
        "Reason": "disabled_reason",
        "Answer": "message",
        "Id": "id",
    }
    fields = [(label, about.get(key)) for label, key in keys.items()]
    return [_section(f"*{title}*"), *_fields(fields)]


def _job(title: str, job: Mapping[str, Any], page: str | None) -> list[Json]:
    video, image = _first(job, "videos"), _first(job, "images")
    quoted = _safe(_summary(job), _TEXT_CAP)
    head = _section(f"*{title}*\n>{quoted}" if quoted else f"*{title}*")
    if picture := _link(image.get("url")):
        alt = one_line((job.get("input") or {}).get("prompt"))[:_TEXT_CAP] or "The first image"
        head["accessory"] = {"type": "image", "image_url": picture, "alt_text": alt}
    fields = [("Model", job.get("model")), ("Vendor", job.get("vendor"))]
    fields += [("Length", _length(job, video)), ("Took", _took(job))]
    buttons = [_button("open_video", "Watch video", video.get("url"), style="primary")]
    buttons += [_button("open_timeline", "Timeline", page)]
    actions = [button for button in buttons if button]
    return [
        head,
        *_fields(fields),
        *_failure(job),
        *([{"type": "actions", "elements": actions}] if actions else []),
        _footer(job, video),
    ]


def _failure(job: Mapping[str, Any]) -> list[Json]:
    error = job.get("error")
    if not isinstance(error, Mapping):
        return []
    code, message = _safe(error.get("code"), _FIELD_CAP), _safe(error.get("message"), _TEXT_CAP)
    return [_section(f"*{code}*: {message}")]


def _footer(job: Mapping[str, Any], video: Mapping[str, Any]) -> Json:
    parts = [_safe(job.get("id"), _FIELD_CAP)]
    if ends := _instant(video.get("expires_at")):
        parts.append(f"link expires {_date(ends)}")
    return {"type": "context", "elements": [_mrkdwn(" · ".join(parts) or "orchestrator")]}


def _first(job: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    output = job.get("output")
    files = output.get(kind) if isinstance(output, Mapping) else None
    return files[0] if files else {}


def _length(job: Mapping[str, Any], video: Mapping[str, Any]) -> str:
    seconds, size = video.get("duration"), (job.get("input") or {}).get("resolution")
    return " · ".join(
        filter(None, (f"{seconds:g} s" if seconds is not None else "", one_line(size)))
    )


def _took(job: Mapping[str, Any]) -> str:
    created, finished = _instant(job.get("created_at")), _instant(job.get("finished_at"))
    if created is None or finished is None:
        return ""
    minutes, seconds = divmod(round((finished - created).total_seconds()), 60)
    duration = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{duration} ({one_line(job.get('resolved_by'))})"


def _instant(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _date(at: datetime) -> str:
    """Return a time that Slack shows in the reader's time zone, with a fallback text."""
    return f"<!date^{epoch_ms(at) // 1000}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def _safe(value: Any, cap: int) -> str:
    """Return text as one line, cut, then escaped, so that no escape is cut in half."""
    text = one_line(value)
    cut = text if len(text) <= cap else text[: cap - 1] + "…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(text: str) -> Json:
    return {"type": "section", "text": _mrkdwn(text)}


def _fields(values: Sequence[tuple[str, Any]]) -> list[Json]:
    shown = [(label, text) for label, value in values if (text := _safe(value, _FIELD_CAP))]
    fields = [_mrkdwn(f"*{label}*\n{text}") for label, text in shown]
    return [{"type": "section", "fields": fields}] if fields else []


def _link(url: Any) -> str | None:
    """Return a URL that Slack accepts, or None."""
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
