"""The contract of a dialect: how one vendor takes orders, reports on them, and is queried."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import IO, Any, ClassVar
from urllib.parse import quote

import httpx

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import (
    BadSignature,
    ConfigError,
    CutOff,
    SignatureFault,
    Unreadable,
    Unsupported,
)
from orchestrator.foundation.json_codec import encode, parse
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.signing import standard_webhooks
from orchestrator.foundation.states import Capability
from orchestrator.vendors.answers import Answers, json_value
from orchestrator.vendors.error_codes import is_unknown_task
from orchestrator.vendors.field_mapping import (
    RequestMapping,
    build_body,
    check_extra,
    check_fields,
    put,
)
from orchestrator.vendors.order import Order
from orchestrator.vendors.reader import Reader
from orchestrator.vendors.report import WORDS, Output, Report, Words

#: Characters of a credential that are masked: a shorter text may be a word.
_LONG = 8

#: A vendor's options, and the words each may be; None: any text.
Options = Mapping[str, tuple[str, ...] | None]
#: The models of each capability.
Models = Mapping[Capability, tuple[str, ...]]


class Lookup(StrEnum):
    """How a task can be found after the answer to its submission was lost."""

    #: Query it by our external id.
    BY_EXTERNAL_ID = "by_external_id"
    #: Send it again: the same request with the same key is the same task.
    BY_KEY = "by_key"
    #: Not at all: only a push can report it.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The vendor accepted the order. `report` is set if its answer holds more than an id."""

    vendor_task_id: str
    report: Report | None = None


class Vendor:
    """One dialect, bound to one account. A subclass is mostly tables."""

    #: The name in the configuration; also the name of the file.
    name: ClassVar[str]
    #: Used where the account configures none. Empty: the account has to configure one.
    default_base_url: ClassVar[str] = ""
    #: The request mapping of each capability. The dialect has no other capabilities.
    forms: Mapping[Capability, RequestMapping]
    #: The models that the vendor's documents name, for each capability. Others go through.
    models: Models = MappingProxyType({})
    #: Status words, in lower case, to our states. Any other word is unknown: the job stays live.
    words: ClassVar[Words] = WORDS
    #: What `[accounts.X.options]` may hold.
    options: ClassVar[Options] = {}
    #: Paths below the base URL: where an order is posted, and where its task is queried, by its id
    #: and by ours. In them, `{path}` is that of the mapping. `{model}`, `{task_id}` (up to `batch`
    #: ids, with commas) and `{external_task_id}` are escaped.
    submit_path: str = "{path}"
    query_path: str = "{path}/{task_id}"
    lookup_path: str = ""
    #: Dotted path of the model in the vendor's body. Empty: it is in the URL.
    model_path: str = "model"
    #: Dotted paths of our own two fields in the body. Empty: the dialect has no such field.
    callback_path: str = "callback_url"
    external_id_path: str = "external_task_id"
    #: Path of a finished clip, with `{task_id}`, which is served with the account's key. Empty: the
    #: dialect has none, and a success names its files.
    content_path: ClassVar[str] = ""
    #: How many task ids one status query may carry.
    batch: int = 1
    #: How a task is found after a lost answer.
    lookup: Lookup = Lookup.NONE
    #: True if a push carries the id of the submit answer. Gateways that forward our URL to Kling
    #: push Kling's own id instead.
    push_id_is_ours: ClassVar[bool] = False
    #: True if the vendor may run one order as several tasks: one pushed failure proves nothing.
    runs_several_tasks: ClassVar[bool] = False

    def __init__(self, account: Account, clock: Clock) -> None:
        """Bind to an account. Raises `ConfigError` for settings the dialect cannot work with."""
        self.account = account
        self.clock = clock
        self.base_url = (account.base_url or self.default_base_url).rstrip("/")
        if not self.base_url:
            raise ConfigError(
                f"accounts.{account.name}.base_url is required: {self.name} has no public default"
            )
        secrets = (account.api_key, account.access_key, account.secret_key)
        #: What no text of the vendor may show: some repeat the key that they refuse.
        self.credentials = tuple(
            text.encode() for key in secrets if len(text := key.get_secret_value()) >= _LONG
        )
        self.reader = Reader(self.words, self.base_url)
        self.answers = Answers(account, self.base_url, self.credentials)
        self._webhook_secrets = [key.get_secret_value() for key in account.webhook_secrets]
        check_options(account, self.name, self.options)
        self.check_credentials()

    def check_credentials(self) -> None:
        """Raise `ConfigError` if the account lacks the keys that the dialect authenticates with.

        Called by `__init__` once `account` is set; attributes of a subclass are not set yet.
        """
        if not self.account.api_key:
            raise ConfigError(
                f"accounts.{self.account.name}.api_key is required: {self.name} has no other way in"
            )

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The capabilities that the dialect has."""
        return frozenset(self.forms)

    @property
    def pushes(self) -> bool:
        """True if requests carry a callback URL, so that a silent vendor means a missing push."""
        return bool(self.callback_path)

    # -- submissions

    def check(self, order: Order) -> None:
        """Raise `Unsupported` for the first field that the dialect cannot carry.

        No field is dropped silently.
        """
        mapping = self.request_mapping(order)
        check_fields(self.name, mapping, order.given)
        reserved = (self.callback_path, self.external_id_path)
        check_extra(self.name, order.given.get("extra", {}), reserved)
        if mapping.check:
            mapping.check(self.name, order.given)

    def request_mapping(self, order: Order) -> RequestMapping:
        """Return the mapping of the order's capability. Raises `Unsupported` if there is none."""
        if order.capability not in self.forms:
            known = ", ".join(sorted(self.forms))
            raise Unsupported(
                "capability", f"{self.name} cannot do {order.capability}; it can do: {known}"
            )
        return self.forms[order.capability]

    def infer_capability(self, given: Mapping[str, Any]) -> Capability:
        """Return the first capability that carries `given`, for a caller who named none."""
        for capability in Capability:
            if capability in self.forms:
                with contextlib.suppress(Unsupported):
                    check_fields(self.name, self.forms[capability], given)
                    return capability
        return Capability.IMAGE2VIDEO if "image_url" in given else Capability.TEXT2VIDEO

    def knows_model(self, model: str) -> bool:
        """Return whether the vendor's documents name the model; True if they name none."""
        return not self.models or any(model in names for names in self.models.values())

    def submit_request(self, order: Order) -> httpx.Request:
        """Return the request that submits the order, with our callback URL and external id."""
        return self.post(self.path(order), self.body(order))

    def path(self, order: Order) -> str:
        """Return the path that the order is posted to, relative to the base URL."""
        return self._filled(self.submit_path, order)

    def body(self, order: Order) -> dict[str, Any]:
        """Return the JSON object that is posted."""
        body: dict[str, Any] = {}
        if self.model_path:
            put(body, self.model_path, order.model)
        body |= build_body(self.name, self.request_mapping(order), order.given)
        if self.callback_path and order.callback_url:
            put(body, self.callback_path, order.callback_url)
        if self.external_id_path:
            put(body, self.external_id_path, order.external_task_id)
        return body

    def receipt(self, response: httpx.Response) -> Receipt:
        """Read the answer to a submission.

        Raises `Refused` for a definite refusal, `CutOff` where the outcome is in doubt.
        """
        body = self.answers.body(response)
        # Whatever else the body says: with an id, the vendor has the task.
        if response.is_success and (found := self.reader.accepted(body)):
            return Receipt(*found)
        if error := self.answers.error(response, body, self.clock.stamp()):
            raise error
        raise CutOff(f"{self.name} accepted the request but gave no task id", kind="no_task_id")

    # -- pushes

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether the vendor signed this push.

        Raises `BadSignature` if there is a signature and it is wrong.
        """
        verify = partial(standard_webhooks.verify, self._webhook_secrets, headers, body)
        try:
            return verify(now=self.clock.stamp())
        except BadSignature as error:
            if error.fault is not SignatureFault.STALE:
                raise
        # A clock that was set lately, ours or the system's: one of the two is the vendor's.
        return verify(now=self.clock.wall())

    def read_push(self, body: bytes) -> list[Report]:
        """Return the reports in a push, at least one. Raises `Unreadable`."""
        try:
            reports = self.reader.reports(json_value(body, self.credentials))
        except Unreadable:
            # Almost-JSON counts for the report in it. Without one it is not JSON.
            parse(body)
            raise
        if not reports:
            raise Unreadable("the body is an empty list")
        return reports

    # -- status queries

    def inquiry(self, orders: Sequence[Order]) -> httpx.Request:
        """Return one status query for up to `batch` orders, each with a vendor task id."""
        task_ids = ",".join(order.vendor_task_id or "" for order in orders)
        return self.get(self._filled(self.query_path, orders[0], task_id=task_ids))

    def lookup_request(self, order: Order) -> httpx.Request:
        """Return the status query by external id.

        Raises `Unsupported` unless `lookup` is `BY_EXTERNAL_ID`.
        """
        if self.lookup is not Lookup.BY_EXTERNAL_ID:
            raise Unsupported("account", f"{self.name} cannot be asked by external id")
        return self.get(self._filled(self.lookup_path, order))

    def _filled(self, template: str, order: Order, task_id: str = "") -> str:
        """Return a path with the values of an order in it."""
        if "{path}" in template:
            template = template.replace("{path}", self.request_mapping(order).path)
        names = {"model": order.model, "external_task_id": order.external_task_id}
        return filled(template, task_id=task_id, **names)

    def read_answer(self, response: httpx.Response) -> list[Report]:
        """Return the reports in the answer to a status query; empty if the task is unknown.

        Raises `Refused` (also for "ask later"), and `CutOff` if the answer proves nothing.
        """
        body, reports = self.answers.body(response), None
        if response.is_success:
            with contextlib.suppress(Unreadable):
                reports = self.reader.reports(body)
        if reports:
            return reports
        if self.unknown_task(response.status_code, body):
            return []
        # An empty list beside an error says nothing about the task.
        if error := self.answers.error(response, body, self.clock.stamp()):
            raise error
        if reports is not None:
            return reports
        raise CutOff(f"{self.name}: the body holds no task object", kind="bad_response")

    def content(self, task_id: str) -> Output | None:
        """Return the file of a success that names none; None if the dialect does not serve it."""
        if not self.content_path:
            return None
        address = self.base_url + filled(self.content_path, task_id=task_id)
        return Output(address, needs_key=True, is_stated=False)

    def unknown_task(self, status: int, body: Any) -> bool:
        """Return whether an answer means "no such task". `body` is parsed; None if not JSON."""
        return is_unknown_task(status, body)

    # -- files

    def upload(self, kind: str, purpose: str, filename: str, content: IO[bytes]) -> httpx.Request:
        """Return the request that uploads a reference file, which is read while it is sent.

        Raises `Unsupported` by default.
        """
        raise Unsupported("account", f"{self.name} takes no file uploads")

    # -- HTTP

    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        return {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        """Return a JSON POST below the base URL."""
        headers = self.headers() | {"content-type": "application/json"}
        return httpx.Request("POST", self.base_url + path, headers=headers, content=encode(body))

    def get(self, path: str, **params: str) -> httpx.Request:
        """Return a GET below the base URL."""
        url = self.base_url + path
        return httpx.Request("GET", url, headers=self.headers(), params=params or None)


def segment(text: str) -> str:
    """Return `text` escaped to one path segment, so that no task id can change the path."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def filled(template: str, **values: str) -> str:
    """Return a path with values in place of their names in braces, each escaped to one segment."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", segment(value))
    return template


def check_options(account: Account, vendor: str, known: Options) -> None:
    """Raise `ConfigError` for an unknown option, or for a word that the option does not allow."""
    for key, value in account.options.items():
        where = f"accounts.{account.name}.options.{key}"
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"{where} is not an option of {vendor}; it has: {names}")
        allowed = known[key]
        if allowed is not None and value not in allowed:
            raise ConfigError(f"{where} must be one of {', '.join(allowed)}, not {value!r}")
