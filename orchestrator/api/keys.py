"""API keys: made, listed and revoked, by admins. A key is shown once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.responses import Response

from orchestrator import keyring, wire
from orchestrator.api import problems
from orchestrator.api.auth import Gate
from orchestrator.api.bodies import NewKey
from orchestrator.api.door import Call, Handler, found, reply
from orchestrator.api.pages import Page, listed


class KeyQuery(Page):
    """`GET /v1/keys`."""

    prefix = "key"


async def create(call: Call) -> Response:
    """`POST /v1/keys`."""
    body, runtime = await call.body(NewKey), call.runtime
    now = runtime.clock.now()
    if body.expires_at is not None and body.expires_at <= now:
        raise problems.fault("/expires_at", "past", "This is in the past")
    row, secret = keyring.new(runtime.ids, name=body.name, scope=body.scope, expires_at=body.expires_at, now=now)
    await runtime.store.write(keyring.add, row)
    return reply(_shown(row) | {"key": secret}, 201)


async def ls(call: Call) -> Response:
    """`GET /v1/keys`, newest first."""
    query = call.query(KeyQuery)
    read = partial(keyring.ls, limit=query.limit + 1, after=query.after)
    return listed(call, await call.runtime.store.read(read), query, _shown)


def revoker(gate: Gate) -> Handler:
    """Return `DELETE /v1/keys/{id}`: the key ends, here at once and in other processes within seconds."""

    async def revoke(call: Call) -> Response:
        now = call.runtime.clock.now()
        if not await call.runtime.store.write(keyring.revoke, call.id("key"), now):
            found(None, "key")
        gate.forget()
        return Response(status_code=204)

    return revoke


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    at = ("created_at", "expires_at", "revoked_at", "last_used_at")
    said = {name: row[name] for name in ("id", "name", "prefix", "scope")}
    return {"object": "api_key", **said, **{name: wire.instant(row[name]) for name in at}}
