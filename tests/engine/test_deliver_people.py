"""Deliveries to people's services over real sockets: what each service answers decides, and no
secret of an address or a credential is stored or shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.api.delivery_requests import parties, request_json
from orchestrator.database.tables import delivery, subscriber
from orchestrator.engine.deliver import Deliverer
from orchestrator.foundation.states import DeliveryState, SubscriberState
from orchestrator.simulator.server import LocalServer
from tests.events.test_destinations import CREDENTIALS, OPTIONS
from tests.harness.engine import at_vendor, drive, subscribe
from tests.harness.runtime import Harness, open_harness

D = DeliveryState
#: The last part of the paths of addresses, and the token in their queries.
SECRET = "hush-hush-hush-hush"
OK: dict[str, tuple[int, Any]] = {
    "discord": (204, None),
    "teams": (202, None),
    "lark": (200, {"code": 0, "msg": "success"}),
    "dingtalk": (200, {"errcode": 0, "errmsg": "ok"}),
    "wecom": (200, {"errcode": 0, "errmsg": "ok"}),
    "telegram": (200, {"ok": True, "result": {}}),
    "ntfy": (200, {"id": "x", "event": "message"}),
    "pagerduty": (202, {"status": "success"}),
}
#: A refusal of this message, and the error of its attempt.
REFUSED: dict[str, tuple[int, Any, str]] = {
    "discord": (400, {"code": 50035}, "status_400"),
    "teams": (400, {"error": {"code": "x"}}, "status_400"),
    "lark": (200, {"code": 19024, "msg": "Key Words Not Found"}, "code_19024"),
    "dingtalk": (200, {"errcode": 310000, "errmsg": "keywords"}, "code_310000"),
    "wecom": (200, {"errcode": 40058, "errmsg": "too long"}, "code_40058"),
    "telegram": (400, {"ok": False, "description": "chat not found"}, "status_400"),
    "ntfy": (403, {"code": 40301, "error": "forbidden"}, "status_403"),
    "pagerduty": (400, {"status": "invalid event"}, "status_400"),
}
#: A rate limit, and the seconds that it asks for at least.
LIMITED: dict[str, tuple[int, Any, float]] = {
    "discord": (429, {"retry_after": 1700.5}, 1700.5),
    "teams": (429, {"retry-after": "1800"}, 1800),
    "lark": (200, {"code": 11232, "msg": "frequency limited"}, 15),
    "dingtalk": (200, {"errcode": 130101}, 600),
    "wecom": (200, {"errcode": 45009}, 60),
    "telegram": (429, {"ok": False, "parameters": {"retry_after": 1900}}, 1900),
    "ntfy": (429, {"retry-after": "1800"}, 1800),
    "pagerduty": (429, {"retry-after": "1800"}, 1800),
}
GONE: dict[str, tuple[int, Any]] = {
    "discord": (404, {"code": 10015}),
    "teams": (404, None),
    "lark": (200, {"code": 19001}),
    "dingtalk": (200, {"errcode": 300005}),
    "wecom": (200, {"errcode": 93000}),
    "telegram": (403, {"ok": False, "description": "bot was blocked by the user"}),
    "ntfy": (410, None),
    "pagerduty": (410, None),
}


class Service:
    """Answers as it is set, and repeats what it was sent."""

    def __init__(self) -> None:
        self.answer: tuple[int, Any] = (204, None)
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.url = ""

    async def __call__(self, request: Request) -> Response:
        sent = await request.body()
        self.received.append((str(request.url), dict(request.headers), json.loads(sent)))
        status, body = self.answer
        if status == 204:
            return Response(status_code=204)
        repeated = [str(request.url), dict(request.headers), sent.decode()]
        headers = {name: body[name] for name in ("retry-after",) if name in (body or {})}
        return JSONResponse({**(body or {}), "sent": repeated}, status, headers)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    service = Service()
    routes = [Route("/{path:path}", service.__call__, methods=["POST"])]
    server = LocalServer(Starlette(routes=routes))
    service.url = server.url
    await server.start()
    try:
        yield service
    finally:
        await server.stop()


async def subscribed(h: Harness, kind: str, server: str) -> str:
    """Add a subscriber of a kind with its credentials; return its id."""
    path = "" if kind == "telegram" else f"/{SECRET}"
    query = "" if kind in ("telegram", "ntfy") else f"?token={SECRET}"
    options = OPTIONS.get(kind, {})
    to = await subscribe(
        h, "job.submitted", kind=kind, url=f"{server}{path}{query}", options=options
    )
    sealed = h.runtime.keys.encrypt(json.dumps(CREDENTIALS.get(kind, {})))
    mine = sa.update(subscriber).where(subscriber.c.id == to["id"])
    await h.run(mine.values(credentials=sealed))
    return str(to["id"])


async def deliver(h: Harness, service: Service, answer: tuple[int, Any]) -> dict[str, Any]:
    """Make the delivery due, attempt it, and return its row."""
    service.answer = answer
    h.clock.advance(100_000)
    assert await drive(h.runtime.assemble(Deliverer)) == 1
    (row,) = await h.rows(delivery, delivery.c.state != D.DELIVERED) or await h.rows(delivery)
    return row


@pytest.mark.parametrize("kind", OK)
async def test_what_a_service_answers_decides(kind: str, tmp_path: Path) -> None:
    private = {"allow_private": ["127.0.0.0/8"]}
    async with serving() as service, open_harness(tmp_path, sockets=True, **private) as h:
        to = await subscribed(h, kind, service.url)
        await at_vendor(h, task="t-1")

        *limited, seconds = LIMITED[kind]
        row = await deliver(h, service, tuple(limited))
        (state,) = await h.rows(subscriber)
        assert row["state"] == D.PENDING
        assert (state["resting_until"] - h.clock.now()).total_seconds() >= seconds

        *refused, error = REFUSED[kind]
        row = await deliver(h, service, tuple(refused))
        assert (row["state"], row["last_error"]) == (D.PENDING, error)

        row = await deliver(h, service, OK[kind])
        assert row["state"] == D.DELIVERED
        assert "a cat" in json.dumps(service.received[-1][2]) or kind == "pagerduty"

        await at_vendor(h, task="t-2")
        await deliver(h, service, GONE[kind])
        (state,) = await h.rows(subscriber)
        assert state["state"] == SubscriberState.DISABLED

        await no_secret_is_kept(h, kind, to)


async def no_secret_is_kept(h: Harness, kind: str, to: str) -> None:
    """No secret is in what is stored in the clear, nor in the request that is shown."""
    tables = ("attempt", "subscriber", "event", "delivery")
    stored = str([await h.rows(table) for table in tables])
    attempts = await h.rows("attempt")
    assert len(attempts) == 4
    shown = []
    for row in await h.rows(delivery):
        found = await h.runtime.store.read(parties, row["id"])
        assert found is not None
        shown.append(request_json(h.runtime, *found, h.clock.now()))
    assert len(shown) == 2
    for secret in (SECRET, *CREDENTIALS.get(kind, {}).values()):
        assert secret not in stored
        assert secret not in json.dumps(shown)
    if kind in CREDENTIALS:
        assert "***" in json.dumps(attempts, default=str)
