"""E-mail: a message for people, in text and in HTML, over one SMTP server.

https://www.rfc-editor.org/rfc/rfc5322, https://www.rfc-editor.org/rfc/rfc3207 (STARTTLS). The
`Message-ID` is made from the event's id, so mailboxes show a repeat once. Messages about one job,
account or subscriber refer to the same parent: mail programs show them as one thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import escape
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import SplitResult, unquote, urlsplit

from orchestrator import __version__
from orchestrator.events.destinations import (
    Connection,
    Message,
    Publication,
    Publisher,
    PublishFailed,
    ResponseClass,
    Target,
)
from orchestrator.events.notification import Notification, Severity, notification
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.email import Email as EmailSettings

if TYPE_CHECKING:
    import aiosmtplib

    from orchestrator.foundation.settings import Settings

#: RFC 5321 allows more; these are what people write, and what no header breaks on.
#: `=` and `?` would make an encoded word (RFC 2047), which is another address once it is decoded.
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_MOST_RECIPIENTS = 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_COLORS = {Severity.BAD: "#c0392b", Severity.WARNING: "#9a6700", Severity.GOOD: "#1f7a4d"}


class Email(Publisher):
    """Mailboxes. The server is a setting: `[email] smtp_url` and `from`."""

    kind = "email"
    example: ClassVar[str] = "mailto:alice@example.com,bob@example.com"
    schemes: ClassVar[tuple[str, ...]] = ("mailto",)
    links_jobs: ClassVar[bool] = True
    extra: ClassVar[str] = "email"

    def __init__(self, server: EmailSettings | None = None) -> None:
        self._server = server or EmailSettings()

    def configured(self, settings: Settings) -> Email:
        """Return this kind with the server of the settings."""
        return Email(settings.email)

    def recognizes(self, address: str) -> bool:
        return address.startswith("mailto:")

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` for what is no list of mailboxes, and without a server."""
        if self._server.smtp_url is None:
            raise ConfigError("e-mail has no server: set smtp_url and from in [email]")
        found = _recipients(address)
        if not all(map(_MAILBOX.fullmatch, found)) or not 1 <= len(found) <= _MOST_RECIPIENTS:
            raise ConfigError(f"write up to {_MOST_RECIPIENTS} mailboxes like {self.example}")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return the message to send. `to` are its recipients."""
        shown, sender = notification(message), self._server.sender or ""
        domain = parseaddr(sender)[1].rpartition("@")[2]
        thread = hashlib.sha256((shown.incident or message.event_id).encode()).hexdigest()[:32]
        mail = EmailMessage(policy=SMTP)
        mail["Subject"] = shown.text[:200]
        mail["From"] = sender
        to = ", ".join(_recipients(target.address))
        mail["To"] = to
        mail["Date"] = format_datetime(message.at)
        mail["Message-ID"] = f"<{message.event_id}@{domain}>"
        mail["References"] = f"<{thread}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Event-Type"] = message.type
        mail["User-Agent"] = f"orchestrator/{__version__}"
        mail.set_content(_text(shown))
        mail.add_alternative(_html(shown), subtype="html")
        # A repeat is the same message, byte for byte.
        mail.set_boundary(f"=_{message.event_id}")
        headers = {"from": sender, "subject": str(mail["Subject"])}
        return Publication(message.event_id, to, mail.as_bytes(), headers, key=message.job_id)

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Return a session that is encrypted and signed in."""
        if self._server.smtp_url is None:
            raise PublishFailed(
                "e-mail has no server: set smtp_url and from in [email]", code="no_server"
            )
        return await _open(urlsplit(self._server.smtp_url.get_secret_value()), tls)


def _recipients(address: str) -> list[str]:
    return [unquote(one).strip() for one in address.removeprefix("mailto:").split(",")]


async def _open(url: SplitResult, tls: ssl.SSLContext) -> Connection:
    import aiosmtplib

    is_tls, host = url.scheme == "smtps", url.hostname or ""
    smtp = aiosmtplib.SMTP(
        hostname=host,
        port=url.port or (465 if is_tls else 587),
        use_tls=is_tls,
        # A server on this machine may do without.
        start_tls=None if is_tls or host in _LOOPBACK else True,
        tls_context=tls,
        local_hostname="orchestrator",
    )
    try:
        await smtp.connect()
        if url.username:
            await smtp.login(unquote(url.username), unquote(url.password or ""))
    except aiosmtplib.SMTPAuthenticationError as error:
        smtp.close()
        raise PublishFailed(
            f"the server refuses the user or the password: {error.code}",
            code="credentials_refused",
            result=ResponseClass.SHORTLY,
        ) from None
    except aiosmtplib.SMTPException as error:
        smtp.close()
        if "STARTTLS" not in str(error):
            raise
        raise PublishFailed(
            "the server offers no TLS (STARTTLS), without which nothing is sent",
            code="tls_required",
            result=ResponseClass.SHORTLY,
        ) from None
    except BaseException:
        smtp.close()
        raise
    return _Email(smtp)


class _Email(Connection):
    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self._smtp = smtp
        #: A session carries one message at a time.
        self._turn = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._smtp.is_connected

    async def publish(self, publication: Publication) -> str:
        import aiosmtplib

        sender = parseaddr(publication.headers["from"])[1]
        to = publication.to.split(", ")
        try:
            async with self._turn:
                refused, answer = await self._smtp.sendmail(sender, to, publication.body)
        except aiosmtplib.SMTPRecipientsRefused as error:
            first = error.recipients[0]
            raise _failed(first.code, "no mailbox takes it: " + first.message) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _failed(error.code, error.message) from None
        if refused:
            return f"{answer}; refused for {', '.join(refused)}"
        return answer

    async def close(self) -> None:
        import aiosmtplib

        try:
            await self._smtp.quit()
        except (aiosmtplib.SMTPException, OSError):
            self._smtp.close()


def _failed(code: int, words: str) -> PublishFailed:
    """Return what a reply means (RFC 5321, 4.2.1): a 4xx passes, a 5xx does not; 421 is the end."""
    result = ResponseClass.SHORTLY if code >= 500 else ResponseClass.LATER
    text = f"{code} {words}"[:500]
    return PublishFailed(text, code=f"smtp_{code}", result=result, is_broken=code in (-1, 421))


def _text(shown: Notification) -> str:
    parts = [
        shown.heading,
        shown.summary,
        " ".join(filter(None, (shown.error_code, shown.error))),
        shown.meaning,
        shown.next_step,
        "\n".join(f"{fact.label}: {fact.value}" for fact in shown.facts),
        "\n".join(f"{link.label}: {link.url}" for link in shown.links),
        f"{shown.type} {shown.about}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


_PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">\
<meta name="color-scheme" content="light dark"></head>
<body style="margin:0;padding:24px 12px;font:15px/1.5 system-ui,sans-serif">
<div style="max-width:560px;margin:0 auto;border-top:4px solid {color};padding-top:16px">
{content}
</div></body></html>
"""
_CELL = (
    '<td style="padding:2px 16px 2px 0;vertical-align:top;overflow-wrap:anywhere{more}">{text}</td>'
)


def _html(shown: Notification) -> str:
    """Return a page: every text in it is escaped, and nothing in it runs."""
    color = _COLORS.get(shown.severity, "#4a5568")
    error = " ".join(filter(None, (shown.error_code, shown.error)))
    parts = [
        _tag("h1", shown.heading, f"font-size:20px;margin:0 0 8px;color:{color}"),
        _tag("p", shown.summary, "margin:0 0 16px"),
        _tag("p", error, f"margin:0 0 16px;padding:8px 12px;border-left:3px solid {color}"),
        _tag("p", shown.meaning, "margin:0 0 8px"),
        _tag("p", shown.next_step, "margin:0 0 16px;font-weight:600"),
        _picture(shown.image_within(2000)),
        _facts(shown),
        _links(shown),
        _tag("p", f"{shown.type} {shown.about}", "margin:24px 0 0;font-size:12px;opacity:.7"),
    ]
    return _PAGE.format(color=color, content="\n".join(filter(None, parts)))


def _tag(name: str, text: str, style: str) -> str:
    return f'<{name} style="{style}">{escape(text)}</{name}>' if text.strip() else ""


def _picture(url: str) -> str:
    style = "max-width:100%;height:auto;border-radius:6px;margin:0 0 16px"
    return f'<img src="{escape(url)}" alt="" style="{style}">' if url else ""


def _facts(shown: Notification) -> str:
    rows = [
        f"<tr>{_CELL.format(more=';opacity:.7', text=escape(fact.label))}"
        f"{_CELL.format(more='', text=escape(fact.value))}</tr>"
        for fact in shown.facts
    ]
    return f'<table role="presentation">{"".join(rows)}</table>' if rows else ""


def _links(shown: Notification) -> str:
    style = "display:inline-block;padding:8px 16px;margin:0 8px 8px 0;border-radius:6px"
    buttons = [
        f'<a href="{escape(link.url)}" style="{style};border:1px solid">{escape(link.label)}</a>'
        for link in shown.links
    ]
    return f'<p style="margin:16px 0 0">{"".join(buttons)}</p>' if buttons else ""
