"""The contract of a destination: one module per kind of address, translation only.

To add a kind, add a file with one `Destination` subclass to this folder; the contract suite finds
it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

import httpx

from orchestrator.foundation.errors import ConfigError

__all__ = ["Destination", "Message", "ResponseClass", "classify", "load", "post"]


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
    headers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    job_page: str | None = None

    @property
    def data(self) -> Mapping[str, Any]:
        """The event, parsed."""
        parsed: Mapping[str, Any] = json.loads(self.body)
        return parsed


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
    #: It can never succeed: the address policy blocks the address.
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
    """One kind of address."""

    kind: ClassVar[str]
    #: True if the address itself is a secret (an incoming-webhook URL): shown without its path.
    secret_address: ClassVar[bool] = False
    #: True if deliveries are signed, so that a subscriber of this kind has a secret.
    signed: ClassVar[bool] = True
    #: True if messages about a job show a link to its page.
    links_jobs: ClassVar[bool] = False
    #: Subscriber options and the words each may be, the default first.
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def request(self, address: str, message: Message, keys: Sequence[str]) -> httpx.Request:
        """Return the request that delivers `message`, signed with all of `keys` (newest first)."""

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return what a response means for the delivery."""
        return classify(response.status_code)

    def check_options(self, options: Mapping[str, str]) -> None:
        """Raise `ConfigError` for an option or a word that this kind does not have."""
        for name, value in options.items():
            if value not in self.options.get(name, ()):
                raise ConfigError(f"{self.kind} has no option {name} = {value!r}")


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
