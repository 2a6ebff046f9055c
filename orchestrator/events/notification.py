"""A notification: an event in words for people, before the markup of any service.

Every text is one line, without characters that no reader can see, and bounded; it comes from
callers and vendors, so the service's markup and mentions in it have to be escaped. Numbers of
characters are counted before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx

from orchestrator.events.destinations import Message
from orchestrator.events.notices import ADVICE, NOTICES, Notice, Severity
from orchestrator.foundation import untrusted
from orchestrator.foundation.durations import span
from orchestrator.foundation.markup import cut, valid_url
from orchestrator.foundation.untrusted import one_line

__all__ = ["Fact", "Link", "Notification", "Severity", "notification"]

#: Characters of a prompt or of an error, of a fact, and of a name within a sentence.
TEXT_CAP = 400
FACT_CAP = 120
NAME_CAP = 80

Json = Mapping[str, Any]


class Fact(NamedTuple):
    """A value with its label."""

    label: str
    value: str


class Link(NamedTuple):
    """A web address with its label. The address has no blanks, and may be long."""

    label: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What a message says. Empty texts are left out."""

    type: str
    severity: Severity
    icon: str
    #: A few words, or a sentence about an account or a subscriber.
    title: str
    #: What tells this event from others, in others' words: what was asked for, the vendor's answer.
    summary: str
    #: What it means, with since when and how many.
    meaning: str = ""
    facts: tuple[Fact, ...] = ()
    #: Why a job failed, in the vendor's words, and its code.
    error: str = ""
    error_code: str = ""
    next_step: str = ""
    #: The web address of a picture.
    image: str = ""
    #: The first is what a reader wants most. They need no key.
    links: tuple[Link, ...] = ()
    #: When the first link ends.
    expires_at: datetime | None = None
    #: The id of the job or subscriber, or the name of the account.
    about: str = ""
    at: datetime | None = None
    #: What the event is part of: an event that `is_over` ends what others with this key began.
    incident: str = ""
    is_over: bool = False

    @property
    def heading(self) -> str:
        """The title with its icon."""
        return f"{self.icon} {self.title}".strip()

    @property
    def text(self) -> str:
        """One line, for a service that shows one."""
        return " — ".join(filter(None, (self.heading, self.summary)))

    def links_within(self, cap: int) -> tuple[Link, ...]:
        """Return the links whose address has at most `cap` characters."""
        return tuple(link for link in self.links if len(link.url) <= cap)

    def image_within(self, cap: int) -> str:
        """Return the address of the picture, or an empty text if it has over `cap` characters."""
        return self.image if len(self.image) <= cap else ""


def notification(message: Message) -> Notification:
    """Return what to show about an event. Any event of ours can be shown, also of unknown type."""
    event = message.data
    about, at = _mapping(event.get("data")), untrusted.instant(event.get("timestamp"))
    notice = NOTICES.get(message.type)
    if notice is None:
        notice = Notice("", Severity.INFO, one_line(message.type)[:NAME_CAP])
    if message.type.startswith("job."):
        return _job(message, notice, about, at, late=event.get("late") is True)
    return _notice(message, notice, about, at)


def _job(
    message: Message, notice: Notice, job: Json, at: datetime | None, *, late: bool
) -> Notification:
    video, error = _first(job, "videos"), _mapping(job.get("error"))
    code = _text(error.get("code"), NAME_CAP)
    ident = _text(job.get("id"), NAME_CAP)
    watch = _public_url(video)
    found = (Link("Watch video", watch), Link("Timeline", untrusted.url(message.job_page) or ""))
    root = job.get("retry_root") or job.get("retry_of") or job.get("id")
    return Notification(
        type=message.type,
        severity=notice.severity,
        icon=notice.icon,
        title=f"{notice.title}, after its deadline" if late else notice.title,
        summary=_text(_mapping(job.get("input")).get("prompt") or job.get("id"), TEXT_CAP),
        meaning=notice.meaning,
        facts=_job_facts(job, video, with_task=bool(notice.next_step or error)),
        error=_text(error.get("vendor_message") or error.get("message"), TEXT_CAP),
        error_code=_joined(code, error.get("vendor_code")),
        next_step=(ADVICE.get(code, "") or notice.next_step).format(id=ident or "ID"),
        image=_image(job),
        links=tuple(link for link in found if link.url),
        expires_at=untrusted.instant(video.get("expires_at")) if watch else None,
        about=ident,
        at=at,
        incident=f"job:{_text(root, NAME_CAP)}",
        is_over=notice.is_over,
    )


def _job_facts(job: Json, video: Json, *, with_task: bool) -> tuple[Fact, ...]:
    own_id = job.get("external_task_id")
    return _facts(
        ("Model", _joined(job.get("model"), job.get("vendor"))),
        ("Account", job.get("account")),
        ("Video", _video(job, video)),
        ("Took", _took(job)),
        ("Your id", own_id if own_id != job.get("id") else None),
        ("Retry of", job.get("retry_of")),
        ("Vendor's task", job.get("vendor_task_id") if with_task else None),
    )


def _notice(message: Message, notice: Notice, about: Json, at: datetime | None) -> Notification:
    words, since = _words(about, at), _since(about)
    ident, named = _text(about.get("id"), NAME_CAP), _text(about.get("name"), NAME_CAP)
    detail = about.get("disabled_reason") or about.get("message") or about.get("description")
    name = named or ident
    return Notification(
        type=message.type,
        severity=notice.severity,
        icon=notice.icon,
        title=notice.title.format_map(words),
        summary=_text(detail or ident, TEXT_CAP),
        meaning=notice.meaning.format_map(words),
        facts=_facts(
            ("Account", named),
            ("Kind", about.get("kind")),
            ("Address", about.get("url")),
            ("Since", _clock_time(since) if since else ""),
        ),
        next_step=notice.next_step.format_map(words),
        about=name,
        at=at,
        incident=_incident(message, about, name),
        is_over=notice.is_over,
    )


def _since(about: Json) -> datetime | None:
    return untrusted.instant(about.get("since") or about.get("failing_since"))


def _words(about: Json, at: datetime | None) -> dict[str, str]:
    """Return what the sentences of a notice name."""
    since, until = _since(about), untrusted.instant(about.get("paused_until"))
    lasted = span((at - since).total_seconds()) if at and since and at > since else ""
    count = about.get("completions_without_push")
    return {
        "id": _text(about.get("id"), NAME_CAP) or "ID",
        "name": _text(about.get("name"), NAME_CAP) or "NAME",
        "url": _text(about.get("url"), FACT_CAP) or "an address",
        "lasting": _lasting(lasted, since),
        "span": f" {lasted}" if lasted else " a moment",
        "until": f", the first time at {_clock_time(until)}" if until else "",
        "count": str(count) if isinstance(count, int) else "Several",
    }


def _clock_time(at: datetime) -> str:
    """Return an instant to read: `2026-11-20 10:00 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _incident(message: Message, about: Json, name: str) -> str:
    """Return the key of what an event is part of: an account can have several troubles at once."""
    subject, _, what = message.type.partition(".")
    if message.type == "subscriber.test":
        return f"test:{message.event_id}"
    if subject == "account":
        what = "push" if what.startswith("push_") else str(about.get("reason") or what)
        return _text(f"account:{name}:{what}", FACT_CAP)
    return _text(f"{subject}:{name}", FACT_CAP)


def _lasting(lasted: str, since: datetime | None) -> str:
    started = f"since {_clock_time(since)}" if since else ""
    return f" for {lasted}, {started}" if lasted else f" {started}".rstrip()


def _mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any, cap: int) -> str:
    return cut(one_line(value), cap)


def _joined(*values: Any) -> str:
    return " · ".join(filter(None, (_text(value, NAME_CAP) for value in values)))


def _facts(*facts: tuple[str, Any]) -> tuple[Fact, ...]:
    shown = ((label, _text(value, FACT_CAP)) for label, value in facts)
    return tuple(Fact(label, value) for label, value in shown if value)


def _first(job: Json, kind: str) -> Json:
    files = _mapping(job.get("output")).get(kind)
    return _mapping(files[0]) if isinstance(files, list) and files else {}


def _public_url(file: Json) -> str:
    """Return the address of a file, if it needs no key."""
    return "" if file.get("content_url") else _web(file.get("url"))


def _web(value: Any) -> str:
    """Return a web address in ASCII, without blanks; empty for any other."""
    found = untrusted.url(value) or ""
    if any(char.isspace() for char in found) or one_line(found) != found:
        return ""
    try:
        url = httpx.URL(found)
    except httpx.InvalidURL:
        return ""
    return valid_url(str(url)) if url.host and not url.userinfo else ""


def _image(job: Json) -> str:
    """Return the first picture of a job: of its output, or the one that it was made from."""
    if found := _public_url(_first(job, "images")):
        return found
    return _web(_mapping(job.get("input")).get("image_url")) if job.get("output") else ""


def _video(job: Json, video: Json) -> str:
    """Return length and size: of the video, or else as they were asked for."""
    asked = _mapping(job.get("input"))
    made = untrusted.seconds(video.get("duration"))
    seconds = untrusted.seconds(asked.get("duration")) if made is None else made
    return _joined(f"{seconds:g} s" if seconds is not None else "", asked.get("resolution"))


def _took(job: Json) -> str:
    created = untrusted.instant(job.get("created_at"))
    finished = untrusted.instant(job.get("finished_at"))
    if created is None or finished is None:
        return ""
    by = _text(job.get("resolved_by"), NAME_CAP).replace("clock", "deadline")
    return span((finished - created).total_seconds()) + (f" ({by})" if by else "")
