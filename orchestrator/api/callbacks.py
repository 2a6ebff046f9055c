"""The callback endpoint, where vendors push: `POST /callbacks/{account}/{token}`.

It stands in front of the router, since every push passes it. The checks are made in this order:
method, token, size, signature, JSON. The response to every bad token is the same, and no token is
logged. After the size check, a push for which there is no room gets 503, unread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.engine.receive import CAP, Receiver
from orchestrator.foundation.admission import Admission, Slot, content_length
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import BadSignature, BadToken, NotJson, Unavailable
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.signing import callback_probe
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.timeouts import Timeouts
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

PREFIX = "/callbacks/"
#: The route's name in metrics.
_ROUTE = "/callbacks/{account}/{token}"
#: Seconds a vendor may take to send its body.
BODY_DEADLINE = 20.0
_PROBLEM = (b"content-type", b"application/problem+json")
_JSON = (b"content-type", b"application/json")
#: The start and the body of a response, as ASGI messages.
Reply = tuple[Message, Message]


class _TooLarge(Exception):
    """The body is over the cap."""


class _TooSlow(Exception):
    """The body did not arrive in time."""


#: The status for each error of the sender; its message is the detail.
_STATUSES: Mapping[type[Exception], HTTPStatus] = {
    BadSignature: HTTPStatus.UNAUTHORIZED,
    NotJson: HTTPStatus.BAD_REQUEST,
    _TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    _TooSlow: HTTPStatus.REQUEST_TIMEOUT,
}


@dataclass(kw_only=True)
class CallbackEndpoint:
    """ASGI middleware that serves paths below `/callbacks/` and passes other requests on."""

    app: ASGIApp
    receiver: Receiver
    admission: Admission
    clock: Clock
    keys: Keys
    metrics: Metrics
    vendors: Mapping[str, Vendor]

    def __post_init__(self) -> None:
        self._timeouts = Timeouts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _is_callback(scope["path"]):
            await self.app(scope, receive, send)
            return
        began = self.clock.monotonic()
        try:
            start, body = await self._respond(scope, receive)
        except ConnectionResetError:
            return
        method = "POST" if scope["method"] == "POST" else "other"
        self.metrics.requests(_ROUTE, method, str(start["status"])).inc()
        self.metrics.request_seconds(_ROUTE, method).observe(self.clock.monotonic() - began)
        await send(start)
        await send(body)

    async def _respond(self, scope: Scope, receive: Receive) -> Reply:
        """Return the response. Raises `ConnectionResetError` if the sender left."""
        if scope["method"] != "POST":
            allow = (b"allow", b"POST")
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "callbacks are POSTed", allow)
        account, token = _account_and_token(scope["path"])
        try:
            if account == callback_probe.PING:
                return self._pong(token)
            vendor, callback = self.receiver.unseal(account, token)
            headers = _headers(scope)
            size = content_length(headers.get("content-length"))
            _check_size(size)
            with self.admission.admit(account, callback.job_id, size=size) as slot:
                body = await _body(slot, receive, self._timeouts)
                await self.receiver.push(vendor, callback, headers, body, _peer(scope))
                return _OK
        except ConnectionResetError:
            raise
        except Exception as error:
            return self._failed(account, scope, error)

    def _pong(self, token: str) -> Reply:
        """Prove that this endpoint has the operator's keys. Raises `BadToken` for a forged ping."""
        pong = callback_probe.pong(self.keys, token, self.clock.now())
        return _reply(200, json.dumps({"ok": True, "pong": pong}).encode(), _JSON)

    def _failed(self, account: str, scope: Scope, error: Exception) -> Reply:
        """Return the response to a push that was not stored."""
        if isinstance(error, BadToken):
            vendor = self.vendors.get(account)
            self.metrics.pushes(vendor.name if vendor else "unknown", "unknown_task").inc()
            # The name of an unknown account is what its sender wrote.
            known = account if vendor else None
            log.info("callback refused", account=known, peer=_peer(scope), why=str(error))
            return _problem(HTTPStatus.NOT_FOUND, "there is no such callback")
        for kind, status in _STATUSES.items():
            if isinstance(error, kind):
                return _problem(status, str(error))
        if isinstance(error, Unavailable):
            return _unavailable(error.retry_after)
        # A bug of ours must not look like the vendor's: many vendors give up on a 4xx or a 500.
        log.error("a push could not be stored", account=account, exception=traceback_of(error))
        return _unavailable(5)


def _is_callback(path: str) -> bool:
    return path.startswith(PREFIX) or (
        path[:2] == "//" and f"/{path.lstrip('/')}".startswith(PREFIX)
    )


def _account_and_token(path: str) -> tuple[str, str]:
    """Return the account and the token in a path, whose slashes some vendors double or append.

    No account and no token holds a slash, so an empty segment means nothing.
    """
    _, account, token = ("/".join(filter(None, path.split("/"))) + "//").split("/", 2)
    return account, token.rstrip("/")


def _peer(scope: Scope) -> str | None:
    """Return the address at the other end of the connection: a proxy's, if there is one."""
    client = scope.get("client")
    return client[0] if client else None


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; repeated ones are joined, so no signature fits."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def _body(slot: Slot, receive: Receive, timeouts: Timeouts) -> bytes:
    """Return the body.

    Raises `_TooLarge`, `_TooSlow`, `Unavailable`, and `ConnectionResetError` if it breaks off.
    """
    chunks = bytearray()
    try:
        async with timeouts.within(BODY_DEADLINE):
            message: Message = await receive()
            while message["type"] == "http.request":
                chunks += message.get("body", b"")
                _check_size(len(chunks))
                slot.hold(len(chunks))
                if not message.get("more_body"):
                    return bytes(chunks)
                message = await receive()
    except TimeoutError as error:
        raise _TooSlow("the body took too long") from error
    raise ConnectionResetError


def _check_size(size: int) -> None:
    if size > CAP:
        raise _TooLarge(f"a callback has at most {CAP} bytes")


def _unavailable(seconds: int) -> Reply:
    detail = "the push could not be stored; send it again"
    retry_after = (b"retry-after", str(seconds).encode())
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after)


def _problem(status: HTTPStatus, detail: str, *headers: tuple[bytes, bytes]) -> Reply:
    members = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": status.phrase.lower().replace(" ", "_"),
        "detail": detail,
    }
    return _reply(int(status), json.dumps(members).encode(), _PROBLEM, *headers)


def _reply(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    return start, {"type": "http.response.body", "body": body}


#: Made once: the response to nearly every push.
_OK = _reply(200, b'{"ok":true}', _JSON)
