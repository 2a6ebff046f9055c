"""Apprise: services that have no kind of their own. Off unless `allow_apprise` is set.

https://appriseit.com/services/. Its library opens connections itself, in threads, so the address
policy does not see them. Therefore only services are allowed whose address names no host: it cannot
lead into a private network. There are no attachments, which could be files of this machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Final

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

if TYPE_CHECKING:
    import apprise

    from orchestrator.foundation.settings import Settings

#: Services with a host of their own, by the schema of Apprise.
_ALLOWED: Final = """
    46elks atalk brevo bulksms bulkvs burstsms chanify clickatell clicksend cliq d7sms
    dingtalk discord feishu firehydrant flock freemobile gchat groupme guilded httpsms ifttt
    join kakaotalk kavenegar lark line mailersend msg91 msgbird nexmo notifiarr octopush
    onesignal opsgenie pagerduty pagertree pbul pingram plivo postmark pover prowl push
    pushed pushme pushplus pushy reddit resend revolt ringc ryver schan sendgrid seven
    signl4 simplepush sinch slack smsmanager spike squadcast telnyx tgram threema twilio
    twist viber victorops voipms vonage webex wecombot whatsapp wxpusher wxteams zoom
"""
SCHEMAS: Final = frozenset(_ALLOWED.split())
_PREFIX: Final = "apprise:"
#: Messages at the same time, of all subscribers of this kind.
_THREADS: Final = 8
_CAP: Final = 2000


class Apprise(Publisher):
    """A service by its Apprise address, which is a secret."""

    kind = "apprise"
    example: ClassVar[str] = "apprise:pover://user@token"
    schemes: ClassVar[tuple[str, ...]] = ("apprise",)
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    extra: ClassVar[str] = "apprise"

    def __init__(self, *, is_allowed: bool = False) -> None:
        self._is_allowed = is_allowed

    def configured(self, settings: Settings) -> Apprise:
        """Return this kind, usable if the settings allow it."""
        return Apprise(is_allowed=settings.allow_apprise)

    def recognizes(self, address: str) -> bool:
        return address.startswith(_PREFIX)

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` unless Apprise is on and the address is of an allowed service."""
        if not self._is_allowed:
            raise ConfigError("Apprise is off: set allow_apprise = true")
        schema, separator, rest = address.removeprefix(_PREFIX).partition("://")
        if not separator or schema.lower() not in SCHEMAS:
            raise ConfigError(
                f"write an address like {self.example}, of a service that has a host of its own"
            )
        if "?" in rest:
            # Parameters name files, other hosts, or switch off the verification of servers.
            raise ConfigError("the address may have no parameters (`?`)")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return a title and a text. `to` is the service."""
        shown = notification(message)
        to = target.address.removeprefix(_PREFIX).partition("://")[0]
        headers = {"title": shown.heading, "type": _TYPES[shown.severity]}
        return Publication(
            message.event_id, to, _text(shown, message).encode(), headers, key=message.job_id
        )

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Return a sender for one address. It connects for each message."""
        import apprise

        self.check_address(target.address)
        asset = apprise.AppriseAsset(
            app_id="orchestrator", secure_logging=True, http_redirects=False
        )
        sender = apprise.Apprise(asset=asset)
        if not sender.add(target.address.removeprefix(_PREFIX)):
            raise PublishFailed(
                "Apprise cannot read the address", code="bad_address", result=ResponseClass.SHORTLY
            )
        return _Apprise(sender)


#: Apprise's names.
_TYPES: Mapping[Severity, str] = {
    Severity.GOOD: "success",
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.BAD: "failure",
}


class _Apprise(Connection):
    def __init__(self, sender: apprise.Apprise) -> None:
        self._sender = sender

    async def publish(self, publication: Publication) -> str:
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(_threads(), self._notify, publication):
            raise PublishFailed("the service did not take the message", code="not_sent")
        return "sent"

    def _notify(self, publication: Publication) -> bool:
        return bool(
            self._sender.notify(
                body=publication.body.decode(),
                title=publication.headers["title"],
                notify_type=publication.headers["type"],
                body_format="text",
                interpret_escapes=False,
            )
        )

    async def close(self) -> None:
        """Nothing is open between two messages."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "apprise")


def _text(shown: Notification, message: Message) -> str:
    parts = [
        shown.summary,
        " ".join(filter(None, (shown.error_code, shown.error))),
        shown.meaning,
        shown.next_step,
        *(f"{fact.label}: {fact.value}" for fact in shown.facts),
        *(f"{link.label}: {link.url}" for link in shown.links_within(_CAP)),
    ]
    words = "\n".join(filter(None, parts))[:_CAP]
    return f"{words}\n{message.event_id}".lstrip()
