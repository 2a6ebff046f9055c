"""The contract of a destination: one module per kind of address.

To add a kind, add a file with one `HttpDestination` or `Publisher` to this folder; the contract
suite finds it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

if TYPE_CHECKING:
    from orchestrator.foundation.settings import Settings

__all__ = [
    "Connection",
    "Destination",
    "HttpDestination",
    "Message",
    "Option",
    "Publication",
    "PublishFailed",
    "Publisher",
    "ResponseClass",
    "Target",
    "classify",
    "load",
    "post",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One event to deliver: `body` is its exact bytes, `at` the time of this attempt.

    `job_page` is an expiring link to the page of its job, which needs no key: for kinds that show
    one (`links_jobs`), if the settings allow it.
    """

    event_id: str
    type: str
    body: bytes
    at: datetime
    job_id: str | None = None
    job_page: str | None = None

    @property
    def data(self) -> Mapping[str, Any]:
        """The event, parsed."""
        parsed: Mapping[str, Any] = json.loads(self.body)
        return parsed


@dataclass(frozen=True, slots=True)
class Target:
    """Where a subscriber receives events. `keys` sign, newest first; `credentials` are secrets."""

    address: str
    keys: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Option:
    """An option or a credential of a kind: the words it may be, or any text that `pattern` matches.

    The first of `choices` is the default.
    """

    description: str
    choices: tuple[str, ...] = ()
    pattern: str = r"[^\x00-\x1f\x7f]{1,512}"
    required: bool = False

    def fault(self, value: str) -> str | None:
        """Return what is wrong with a value, or None. A value may be a secret: it is not named."""
        if self.choices:
            is_one = value in self.choices
            return None if is_one else f"must be one of {', '.join(self.choices)}"
        return None if re.fullmatch(self.pattern, value) else f"must match {self.pattern}"


def post(address: str, headers: Mapping[str, str], body: bytes) -> httpx.Request:
    """Return a POST of `body`, framed as httpx frames it but without its cost of encoding."""
    url, host = _parsed(address)
    headers = {"Host": host, **headers, "Content-Length": str(len(body))}
    request = httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(body))
    request.read()
    return request


@lru_cache(maxsize=4096)
def _parsed(address: str) -> tuple[httpx.URL, str]:
    """Return the URL and its host. Cached: parsing costs more than signing."""
    url = httpx.URL(address)
    return url, url.netloc.decode("ascii")


class ResponseClass(StrEnum):
    """What a response means for the delivery."""

    #: Only a 2xx.
    DELIVERED = "delivered"
    #: Retry for days.
    LATER = "later"
    #: Looks misconfigured: retry a few times, so that a deploy can recover.
    SHORTLY = "shortly"
    #: The address no longer exists: stop, and disable the subscriber.
    GONE = "gone"
    #: It can never succeed: the address policy blocks the address, or the retry policy says so.
    NEVER = "never"


def classify(status: int) -> ResponseClass:
    """Return the class of a status code (Standard Webhooks, "Response status codes").

    Redirects are not followed.
    """
    if 200 <= status < 300:
        return ResponseClass.DELIVERED
    if status == 410:
        return ResponseClass.GONE
    if status in (408, 425, 429) or status >= 500:
        return ResponseClass.LATER
    return ResponseClass.SHORTLY


class Destination(ABC):
    """One kind of address. Subclass `HttpDestination` or `Publisher`."""

    kind: ClassVar[str]
    #: An address of this kind, for the documentation.
    example: ClassVar[str] = "https://example.com/hook"
    #: The schemes of its addresses.
    schemes: ClassVar[tuple[str, ...]] = ("https", "http")
    #: True if the address itself is a secret (an incoming-webhook URL): shown without its path.
    secret_address: ClassVar[bool] = False
    #: True if deliveries are signed, so that a subscriber of this kind has a secret.
    signed: ClassVar[bool] = False
    #: True if messages about a job show a link to its page.
    links_jobs: ClassVar[bool] = False
    #: Options and credentials of its subscribers.
    options: ClassVar[Mapping[str, Option]] = {}
    credentials: ClassVar[Mapping[str, Option]] = {}
    #: Deliveries at once, unless the subscriber says otherwise.
    max_in_flight: ClassVar[int] = 8
    #: The extra of the distribution that brings its library; empty: none is needed.
    extra: ClassVar[str] = ""

    def configured(self, settings: Settings) -> Destination:
        """Return this kind as the settings configure it."""
        del settings
        return self

    def recognizes(self, address: str) -> bool:
        """Return whether an address is unmistakably of this kind."""
        return False

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` for an address of the right scheme that cannot be of this kind."""
        del address


class HttpDestination(Destination):
    """A kind that receives each event as one HTTP request: translation only."""

    @abstractmethod
    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the request that delivers `message`, signed with all keys of the target."""

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return what a response means for the delivery."""
        return classify(response.status_code)

    def wait(self, response: httpx.Response) -> float | None:
        """Return the seconds that a failed response asks to wait, apart from its `Retry-After`."""
        del response
        return None

    def error_code(self, response: httpx.Response) -> str | None:
        """Return the error of a failed response whose status does not tell it: `code_19021`."""
        del response
        return None


class PublishFailed(Exception):
    """A broker did not confirm a message.

    `code` is what the attempt shows as its error; `str()` is stored as its response, without
    secrets. `rest` pauses the whole subscriber for so many seconds, as a `Retry-After` does. A
    broken connection is `is_broken`: it is closed and not used again.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        result: ResponseClass = ResponseClass.LATER,
        rest: float | None = None,
        is_broken: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.result = result
        self.rest = rest
        self.is_broken = is_broken


@dataclass(frozen=True, slots=True)
class Publication:
    """A message in the form of a broker: `to` is its subject, topic, stream, queue or mailbox."""

    id: str
    to: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    #: What keeps its order and shares a partition with it: the job.
    key: str | None = None


class Connection(ABC):
    """An open connection to a broker. Any exception but `PublishFailed` means that it is broken.

    It does not reconnect by itself, nor hold messages back until it has: a message may leave only
    while its claim lasts. The engine opens another.
    """

    @property
    def is_open(self) -> bool:
        """False once it is known to be broken: the engine opens another before it publishes."""
        return True

    @abstractmethod
    async def publish(self, publication: Publication) -> str:
        """Return the receipt once the broker has confirmed the message: what an operator reads.

        Messages may be published concurrently. Raises `PublishFailed`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close it, within a second or so. Does not raise for a connection that is broken."""


class Publisher(Destination):
    """A kind that receives events over a connection that is kept open: brokers and SMTP.

    Connections are opened and used on the event loop of `egress.broker_loop`, which lets a socket
    connect only where the address policy allows it, whatever library opens it and whatever host a
    broker names. Libraries are imported in `open`: a kind exists without its extra.
    """

    max_in_flight: ClassVar[int] = 64

    @abstractmethod
    def encode(self, target: Target, message: Message) -> Publication:
        """Return the message to send, signed where the kind signs. No I/O."""

    @abstractmethod
    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Return a connection that is ready to publish. The caller limits the time.

        `tls` verifies servers: it trusts the authorities of the settings. It is shared: a kind that
        presents a certificate makes its own. Raises `PublishFailed` for a target that is refused
        (credentials, a stream that is missing); any other exception means that the broker cannot be
        reached.
        """


@cache
def load() -> Mapping[str, Destination]:
    """Import every module of this folder and return its destination by kind."""
    found: dict[str, Destination] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for _, member in inspect.getmembers(loaded, inspect.isclass):
            if issubclass(member, Destination) and member.__module__ == loaded.__name__:
                found[member.kind] = member()
    return MappingProxyType(found)
