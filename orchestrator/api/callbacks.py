"""The vendors' door: `POST /callbacks/{account}/{token}`.

It stands in front of the router, since every push passes it. The checks come in this order and no other: method, token,
size, signature, JSON. Whatever is wrong with a token, the answer is one and the same, and no token reaches a log. After
its size, a push that there is no room for is 503, unread.
"""

from __future__ import annotations

import json
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.engine.receive import CAP, Receiver
from orchestrator.foundation.admission import Admission, Slot, content_length
from orchestrator.foundation.errors import BadSignature, BadToken, NotJson, Unavailable
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.signing import callback_probe
from orchestrator.foundation.timeouts import Timeouts

log = structlog.get_logger()

PREFIX = "/callbacks/"
#: As metrics name it.
_ROUTE = "/callbacks/{account}/{token}"
#: Seconds a vendor may take to send its body.
BODY_DEADLINE = 20.0
_PROBLEM = (b"content-type", b"application/problem+json")
_JSON = (b"content-type", b"application/json")


class CallbackResponse(Exception):
    """The door's answer, decided."""

    def __init__(self, status: HTTPStatus, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers
        code = status.phrase.lower().replace(" ", "_")
        self.body = json.dumps(
            {
                "type": "about:blank",
                "title": status.phrase,
                "status": int(status),
                "code": code,
                "detail": detail,
            }
        ).encode()


_NOT_FOUND = (HTTPStatus.NOT_FOUND, "there is no such callback")


class CallbackEndpoint:
    """ASGI middleware that answers below `/callbacks/` and passes everything else on."""

    def __init__(self, app: ASGIApp, receiving: Receiver, admission: Admission) -> None:
        self._app = app
        self._receiving = receiving
        self._admission = admission
        self._timeouts = Timeouts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        began = self._receiving.clock.monotonic()
        try:
            answered = await self._take_in(scope, receive)
        except CallbackResponse as answer:
            answered = _messages(int(answer.status), answer.body, _PROBLEM, *answer.headers)
        except ConnectionResetError:
            return
        self._count(scope, answered[0]["status"], began)
        for message in answered:
            await send(message)

    def _count(self, scope: Scope, status: int, began: float) -> None:
        metrics, method = (
            self._receiving.metrics,
            "POST" if scope["method"] == "POST" else "other",
        )
        metrics.requests(_ROUTE, method, str(status)).inc()
        metrics.request_seconds(_ROUTE, method).observe(self._receiving.clock.monotonic() - began)

    async def _take_in(self, scope: Scope, receive: Receive) -> tuple[Message, Message]:
        if scope["method"] != "POST":
            raise CallbackResponse(
                HTTPStatus.METHOD_NOT_ALLOWED, "callbacks are POSTed", (b"allow", b"POST")
            )
        account, _, token = scope["path"].removeprefix(PREFIX).partition("/")
        try:
            if account == callback_probe.PING:
                return self._pong(token)
            vendor, callback = self._receiving.unseal(account, token)
            headers = _headers(scope)
            size = content_length(headers.get("content-length"))
            _check_size(size)
            with self._admission.admit(size) as place:
                body = await _body(place, receive, self._timeouts)
                await self._receiving.push(vendor, callback, headers, body)
                return _OK
        except BadToken as error:
            known = self._receiving.vendors.get(account)
            self._receiving.metrics.pushes(known.name if known else "unknown", "unknown_task").inc()
            log.info("callback refused", why=str(error))
            raise CallbackResponse(*_NOT_FOUND) from error
        except BadSignature as error:
            raise CallbackResponse(HTTPStatus.UNAUTHORIZED, str(error)) from error
        except NotJson as error:
            raise CallbackResponse(HTTPStatus.BAD_REQUEST, str(error)) from error
        except Unavailable as error:
            raise CallbackResponse(*_trouble(error.retry_after)) from error
        except (CallbackResponse, ConnectionResetError):
            raise
        except Exception as error:
            # A bug of ours must not look like the vendor's fault: most vendors give up on a 4xx and on some 500s.
            log.error(
                "a push could not be taken in", account=account, exception=traceback_of(error)
            )
            raise CallbackResponse(*_trouble(5)) from error

    def _pong(self, token: str) -> tuple[Message, Message]:
        """Show an operator who holds our keys that this door is ours. Raises `BadToken` for everybody else."""
        keys, now = self._receiving.keys, self._receiving.clock.now()
        said = {"ok": True, "pong": callback_probe.pong(keys, token, now)}
        return _messages(200, json.dumps(said).encode(), _JSON)


def _trouble(seconds: int) -> tuple[HTTPStatus, str, tuple[bytes, bytes]]:
    wait = (b"retry-after", str(seconds).encode())
    return HTTPStatus.SERVICE_UNAVAILABLE, "the push could not be stored; send it again", wait


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; one sent twice is joined by a comma, which no signature survives."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, said = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {said}" if key in headers else said
    return headers


async def _body(place: Slot, receive: Receive, timeouts: Timeouts) -> bytes:
    """Return the body. Raises `Answer` when it is too large or too slow, `ConnectionResetError` when it breaks off."""
    chunks = bytearray()
    try:
        async with timeouts.within(BODY_DEADLINE):
            message: Message = await receive()
            while message["type"] == "http.request":
                chunks += message.get("body", b"")
                _check_size(len(chunks))
                place.hold(len(chunks))
                if not message.get("more_body"):
                    return bytes(chunks)
                message = await receive()
    except TimeoutError as error:
        raise CallbackResponse(HTTPStatus.REQUEST_TIMEOUT, "the body took too long") from error
    raise ConnectionResetError


def _check_size(size: int) -> None:
    if size > CAP:
        raise CallbackResponse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a callback has at most {CAP} bytes"
        )


def _messages(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> tuple[Message, Message]:
    """Return an answer as ASGI has it sent."""
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    return start, {"type": "http.response.body", "body": body}


#: Made once: nearly every push is answered with it.
_OK = _messages(200, b'{"ok":true}', _JSON)
