"""E-mail to a server of aiosmtpd: TLS, refusals, and what a mailbox shows."""

from __future__ import annotations

import asyncio
import contextlib
import email
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from pydantic import ValidationError

from orchestrator.events.destinations import PublishFailed, ResponseClass, Target
from orchestrator.events.destinations.email import Email
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.email import Email as Settings
from orchestrator.foundation.states import EventType
from tests.egress.test_certificates import Authority
from tests.events.test_destinations import FAILED, FLAWS, JOB, SUBSCRIBER, message

TO = Target("mailto:ann@example.com,bob@example.com")
FROM = "Renders <renders@orchestrator.example.com>"


class Mailbox:
    """Keeps the mail that arrives; refuses mailboxes at `nowhere.example`."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 kept"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.endswith("@nowhere.example"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        if self.answer.startswith("250"):
            self.mails.append(email.message_from_bytes(content, policy=default))
        return self.answer


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@contextlib.asynccontextmanager
async def serving(mailbox: Mailbox, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on loopback; yield the port. The user is `ann`, the password `p@ss`."""

    def signs_in(_: SMTP, __: Any, ___: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"ann", b"p@ss"), handled=False)

    loop = asyncio.get_running_loop()
    served = await loop.create_server(
        lambda: SMTP(
            mailbox,
            hostname="mail.example.com",
            tls_context=tls,
            authenticator=signs_in,
            auth_require_tls=False,
            loop=loop,
        ),
        "127.0.0.1",
    )
    try:
        yield served.sockets[0].getsockname()[1]
    finally:
        served.close()
        await served.wait_closed()


@pytest.fixture
async def port(mailbox: Mailbox, authority: Authority) -> AsyncIterator[int]:
    """Yield the port of a server that offers STARTTLS."""
    async with serving(mailbox, authority.server("mail.example.com")) as found:
        yield found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def trusted(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> ssl.SSLContext:
    """Resolve every name to this machine; return a context that trusts the test's authority."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def here(host: Any, port: Any, **rest: Any) -> Any:
        return await resolve("127.0.0.1", port, **rest)

    monkeypatch.setattr(loop, "getaddrinfo", here)
    return ssl.create_default_context(cafile=str(authority.pem))


def sender(url: str) -> Email:
    return Email(Settings.model_validate({"smtp_url": url, "from": FROM}))


async def send(
    kind: Email, tls: ssl.SSLContext, to: Target = TO, event: str = "job.succeeded"
) -> str:
    connection = await kind.open(to, tls)
    try:
        return await connection.publish(kind.encode(to, message(event)))
    finally:
        await connection.close()


async def test_a_mail_arrives_over_starttls_in_text_and_html(
    mailbox: Mailbox, port: int, trusted: ssl.SSLContext
) -> None:
    kind = sender(f"smtp://ann:p%40ss@mail.example.com:{port}")
    assert await send(kind, trusted) == "kept"
    (mail,) = mailbox.mails
    assert (mail["From"], mail["To"]) == (FROM, "ann@example.com, bob@example.com")
    assert mail["Message-ID"] == "<evt_1@orchestrator.example.com>"
    assert "Video ready" in mail["Subject"]
    text, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text
    assert page
    for part in (text, page):
        assert "a cat surfing" in part.get_content()
        assert "https://cdn/v.mp4" in part.get_content()


async def test_a_repeat_has_the_same_id_and_a_jobs_mails_are_one_thread(
    mailbox: Mailbox, port: int, trusted: ssl.SSLContext
) -> None:
    kind = sender(f"smtp://mail.example.com:{port}")
    for event in ("job.processing", "job.succeeded", "job.succeeded"):
        await send(kind, trusted, event=event)
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == 1
    assert len({mail["References"] for mail in mailbox.mails}) == 1


async def test_without_tls_nothing_is_sent(mailbox: Mailbox, trusted: ssl.SSLContext) -> None:
    async with serving(mailbox) as port:
        with pytest.raises(PublishFailed) as failed:
            await sender(f"smtp://mail.example.com:{port}").open(TO, trusted)
        assert (failed.value.code, failed.value.result) == ("tls_required", ResponseClass.SHORTLY)
        assert await send(sender(f"smtp://localhost:{port}"), trusted) == "kept"


async def test_a_wrong_password_is_refused_without_being_shown(
    port: int, trusted: ssl.SSLContext
) -> None:
    kind = sender(f"smtp://ann:hunter2@mail.example.com:{port}")
    with pytest.raises(PublishFailed) as failed:
        await kind.open(TO, trusted)
    assert (failed.value.code, failed.value.result) == (
        "credentials_refused",
        ResponseClass.SHORTLY,
    )
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize(
    ("answer", "result", "is_broken"),
    [
        ("452 mailbox full", ResponseClass.LATER, False),
        ("421 go away", ResponseClass.LATER, True),
        ("554 no", ResponseClass.SHORTLY, False),
    ],
)
async def test_a_refusal_is_retried_as_its_code_says(
    mailbox: Mailbox, port: int, trusted: ssl.SSLContext,
    answer: str, result: ResponseClass, is_broken: bool,
) -> None:  # fmt: skip
    mailbox.answer = answer
    kind = sender(f"smtp://mail.example.com:{port}")
    with pytest.raises(PublishFailed) as failed:
        await send(kind, trusted)
    assert (failed.value.result, failed.value.is_broken) == (result, is_broken)
    assert failed.value.code == f"smtp_{answer[:3]}"


async def test_a_mailbox_that_does_not_exist_is_named_and_the_others_get_the_mail(
    mailbox: Mailbox, port: int, trusted: ssl.SSLContext
) -> None:
    kind = sender(f"smtp://mail.example.com:{port}")
    some = Target("mailto:ann@example.com,cy@nowhere.example")
    assert "refused for cy@nowhere.example" in await send(kind, trusted, some)
    assert len(mailbox.mails) == 1
    with pytest.raises(PublishFailed, match="550 no mailbox takes it") as failed:
        await send(kind, trusted, Target("mailto:cy@nowhere.example"))
    assert failed.value.result is ResponseClass.SHORTLY


@pytest.mark.parametrize("data", [JOB, FAILED, SUBSCRIBER, *FLAWS])
def test_every_event_is_a_mail_and_no_text_is_markup(data: dict[str, Any]) -> None:
    evil = "<script>alert(1)</script>\r\nBcc: eve@evil.example\x00"
    given = data | {
        "input": {"prompt": evil},
        "name": evil,
        "error": {"code": evil, "message": evil},
    }
    for event in EventType:
        sent = sender("smtps://mail.example.com").encode(TO, message(event, given))
        mail = email.message_from_bytes(sent.body, policy=default)
        assert (mail["Bcc"], mail["To"]) == (None, sent.to)
        page = mail.get_body(("html",))
        assert page
        assert "<script" not in page.get_content()


@pytest.mark.parametrize(
    "address",
    ["mailto:=?utf-8?q?a=2C=20evil=40x=2Ecom?=@example.com",
     "mailto:", "mailto:ann", "mailto:ann@example.com?bcc=eve@evil.example", "mailto:a@b,,c@d",
     "mailto:ann@example.com%0aBcc:eve@evil.example", "mailto:" + "a@example.com," * 20 + "b@c"],
)  # fmt: skip
def test_only_mailboxes_are_an_address(address: str) -> None:
    kind = sender("smtps://mail.example.com")
    kind.check_address("mailto:ann@example.com,bob.b+x@sub.example.com")
    with pytest.raises(ConfigError, match="mailboxes like"):
        kind.check_address(address)


def test_mail_needs_a_server() -> None:
    with pytest.raises(ConfigError, match="set smtp_url and from"):
        Email().check_address("mailto:ann@example.com")


@pytest.mark.parametrize(
    "settings",
    [{"smtp_url": "smtps://x"}, {"from": FROM}, {"smtp_url": "http://x", "from": FROM},
     {"smtp_url": "smtps://x", "from": "nobody"}, {"smtp_url": "smtps://x", "from": "a@b\nBcc: c"}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(settings)
