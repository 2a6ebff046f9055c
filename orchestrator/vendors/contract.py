"""The contract of a dialect: how one vendor is asked for work, heard, and asked about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError, CutOff, Unreadable, Unsupported
from orchestrator.foundation.json_codec import parse
from orchestrator.foundation.retry_after import retry_after
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.signing import standard_webhooks
from orchestrator.foundation.states import Capability
from orchestrator.foundation.untrusted import name
from orchestrator.vendors.error_codes import classify
from orchestrator.vendors.field_mapping import (
    RequestMapping,
    build_body,
    check_extra,
    check_fields,
    put,
)
from orchestrator.vendors.order import Order
from orchestrator.vendors.report import WORDS, Report, Words, read, read_item

#: The options a vendor has, and the words each may be; None: any text.
Options = Mapping[str, tuple[str, ...] | None]


class Lookup(StrEnum):
    """What can be asked after an answer was lost."""

    #: A task can be found by our external id.
    BY_EXTERNAL_ID = "by_external_id"
    #: The same request with the same key is the same task: send it again.
    BY_KEY = "by_key"
    #: Nothing: only a push can tell.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The vendor took the order. `report` is there if its answer says more than an id."""

    vendor_task_id: str
    report: Report | None = None


class Vendor(ABC):
    """One dialect, bound to one account. A subclass is mostly tables."""

    #: The name in the configuration; also the name of the file.
    name: ClassVar[str]
    #: Used where the account configures none. Empty: the account has to.
    default_base_url: ClassVar[str] = ""
    #: How each capability is asked for. What is not in here, the dialect does not have.
    forms: Mapping[Capability, RequestMapping]
    #: Status words, lower case, to our states. Anything else is unknown and keeps the job live.
    words: ClassVar[Words] = WORDS
    #: What `[accounts.X.options]` may hold.
    options: ClassVar[Options] = {}
    #: Dotted path of the model in the vendor's body. Empty: it is in the URL.
    model_path: str = "model"
    #: Dotted paths of our own two fields in the vendor's body. Empty: the dialect has no such field.
    callback_path: str = "callback_url"
    external_id_path: str = "external_task_id"
    #: Ids one status query may carry.
    batch: int = 1
    #: What can be asked after a lost answer.
    lookup: Lookup = Lookup.NONE
    #: True if a push carries the id the submit answer gave. Gateways that forward our URL push Kling's own id instead.
    push_id_is_ours: ClassVar[bool] = False
    #: True if the vendor may run one order as several tasks of its own: one pushed failure then proves nothing.
    siblings: ClassVar[bool] = False

    def __init__(self, account: Account, clock: Clock) -> None:
        """Bind to an account. Raises `ConfigError` for settings the dialect cannot work with."""
        self.account = account
        self.clock = clock
        self.base_url = (account.base_url or self.default_base_url).rstrip("/")
        if not self.base_url:
            raise ConfigError(
                f"accounts.{account.name}.base_url is required: {self.name} has no public default"
            )
        check_options(account, self.name, self.options)
        self.check_credentials()

    def check_credentials(self) -> None:
        """Raise `ConfigError` if the account's keys are not what the dialect authenticates with."""
        if not self.account.api_key:
            raise ConfigError(
                f"accounts.{self.account.name}.api_key is required: {self.name} has no other way in"
            )

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the dialect can make."""
        return frozenset(self.forms)

    @property
    def pushes(self) -> bool:
        """True if the vendor is told a callback URL, so that silence means something went missing."""
        return bool(self.callback_path)

    # -- asking for work

    def check(self, order: Order) -> None:
        """Raise `Unsupported` for the first thing the dialect cannot carry. Nothing is dropped silently."""
        check_fields(self.name, self.form(order), order.given)
        reserved = tuple(path for path in (self.callback_path, self.external_id_path) if path)
        check_extra(self.name, order.given.get("extra", {}), reserved)

    def form(self, order: Order) -> RequestMapping:
        """Return the form an order is asked with. Raises `Unsupported` if the dialect has no such capability."""
        if order.capability not in self.forms:
            known = ", ".join(sorted(self.forms))
            raise Unsupported(
                "capability", f"{self.name} cannot do {order.capability}; it can do: {known}"
            )
        return self.forms[order.capability]

    def infer(self, given: Mapping[str, Any]) -> Capability:
        """Return the plainest capability that carries what is given, for a caller who named none."""
        for capability in (one for one in Capability if one in self.forms):
            try:
                check_fields(self.name, self.forms[capability], given)
            except Unsupported:
                continue
            return capability
        return Capability.IMAGE2VIDEO if "image_url" in given else Capability.TEXT2VIDEO

    def submission(self, order: Order) -> httpx.Request:
        """Return the request that asks for the order, our callback URL and external id in it."""
        return self.post(self.path(order), self.body(order))

    def path(self, order: Order) -> str:
        """Return where the order is posted, relative to the base URL."""
        return self.form(order).path

    def body(self, order: Order) -> dict[str, Any]:
        """Return the JSON object that is posted."""
        body: dict[str, Any] = {}
        if self.model_path:
            put(body, self.model_path, order.model)
        body |= build_body(self.name, self.form(order), order.given)
        if self.callback_path and order.callback_url:
            put(body, self.callback_path, order.callback_url)
        if self.external_id_path:
            put(body, self.external_id_path, order.external_task_id)
        return body

    def receipt(self, response: httpx.Response) -> Receipt:
        """Read the answer to a submission. Raises `Refused` for a definite no, `CutOff` for anything doubtful."""
        said = self.open(response)
        inner = said.get("data", said) if isinstance(said, dict) else None
        if not isinstance(inner, dict) or not (
            task := name(inner.get("task_id")) or name(inner.get("id"))
        ):
            raise CutOff(f"{self.name} accepted the request but gave no task id", kind="no_task_id")
        try:
            return Receipt(task, read_item(inner, self.words))
        except Unreadable:
            return Receipt(task)

    # -- hearing of it

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """True if the vendor signed this push, False if it did not. Raises `BadSignature` if it did so wrongly."""
        return standard_webhooks.verify(
            self.account.webhook_secrets, headers, body, now=self.clock.now()
        )

    def read_push(self, body: bytes) -> list[Report]:
        """Return what a push says. Raises `Unreadable`."""
        reports = read(parse(body), self.words)
        if not reports:
            raise Unreadable("the body is an empty list")
        return reports

    # -- asking about it

    @abstractmethod
    def inquiry(self, orders: Sequence[Order]) -> httpx.Request:
        """Return one request for the state of up to `batch` orders, each with a vendor task id."""

    def lookup_request(self, order: Order) -> httpx.Request:
        """Return the request that finds an order by its external id. Raises `Unsupported` if `lookup` is not by it."""
        raise Unsupported("account", f"{self.name} cannot be asked by external id")

    def read_answer(self, response: httpx.Response) -> list[Report]:
        """Return what an answer to a question says; empty if the vendor knows no such task.

        Raises `Refused` (also for "ask later") and `CutOff` (the answer says nothing).
        """
        try:
            said = parse(response.content)
        except Unreadable:
            said = None
        if self.unknown_task(response.status_code, said):
            return []
        try:
            return read(self.open(response), self.words)
        except Unreadable as error:
            raise CutOff(f"{self.name}: {error}", kind="bad_response") from error

    def unknown_task(self, status: int, said: Any) -> bool:
        """True if an answer (`said` is its parsed body, None if it is no JSON) says that there is no such task."""
        return status == 404

    # -- files

    def upload(self, kind: str, purpose: str, filename: str, content: bytes) -> httpx.Request:
        """Return the request that hands the vendor a reference file. Raises `Unsupported` where it takes none."""
        raise Unsupported("account", f"{self.name} takes no file uploads")

    # -- requests and answers

    def open(self, response: httpx.Response) -> Any:
        """Return the parsed body of an answer that is no error. Raises `Refused` or `CutOff`."""
        try:
            said = parse(response.content)
        except Unreadable:
            said = None
        wait = retry_after(response.headers, self.clock.now())
        if error := classify(self.name, response.status_code, said, wait=wait):
            raise error
        return said

    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        return {"authorization": f"Bearer {self.account.api_key}"}

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        """Return a JSON POST below the base URL."""
        return httpx.Request("POST", self.base_url + path, headers=self.headers(), json=body)

    def get(self, path: str, **params: str) -> httpx.Request:
        """Return a GET below the base URL."""
        return httpx.Request(
            "GET", self.base_url + path, headers=self.headers(), params=params or None
        )


def segment(text: str) -> str:
    """Return `text` as one segment of a path: whatever a vendor calls its tasks, it cannot lead elsewhere."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def check_options(account: Account, vendor: str, known: Options) -> None:
    """Raise `ConfigError` for an option the vendor does not have, or a word it may not be."""
    for key, value in account.options.items():
        where = f"accounts.{account.name}.options.{key}"
        if key not in known:
            raise ConfigError(
                f"{where} is not an option of {vendor}; it has: {', '.join(sorted(known)) or 'none'}"
            )
        allowed = known[key]
        if allowed is not None and value not in allowed:
            raise ConfigError(f"{where} must be one of {', '.join(allowed)}, not {value!r}")
