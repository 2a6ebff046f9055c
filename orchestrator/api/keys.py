"""API keys: made, listed and revoked, by admins. A key is shown once, when it is made."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.auth import api_keys
from orchestrator.api.auth.authenticator import Authenticator
from orchestrator.api.endpoint import Handler, RequestContext, found, reply
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, listed
from orchestrator.api.requests import NewKey
from orchestrator.schemas.accounts import api_key_json


class KeyQuery(PageRequest):
    """`GET /v1/keys`."""

    prefix = "key"


@operation("Create a key", answers={201: answer(schemas.NewApiKey, "Location")})
async def create(call: RequestContext, body: NewKey) -> Response:
    """The key itself is shown here and never again."""
    runtime = call.runtime
    now = runtime.clock.now()
    if body.expires_at is not None and body.expires_at <= now:
        raise problems.fault("/expires_at", "past", "This is in the past")
    row, secret = api_keys.new(runtime.ids, now=now, **body.model_dump())
    await runtime.store.write(api_keys.add, row)
    return reply(
        api_key_json(row) | {"key": secret},
        201,
        {"location": f"{runtime.base}/v1/keys/{row['id']}"},
    )


@operation("List keys", answers={200: answer(schemas.Page[schemas.ApiKey], "Link")})
async def ls(call: RequestContext, query: KeyQuery) -> Response:
    """Newest first, revoked ones too. Keys of the configuration are not among them."""
    read = partial(api_keys.ls, limit=query.limit + 1, after=query.after)
    return listed(call, await call.runtime.store.read(read), query, api_key_json)


@operation("Get a key", answers={200: schemas.ApiKey})
async def show(call: RequestContext) -> Response:
    """What it may do, until when, and when it was last used, to the minute."""
    return reply(
        api_key_json(found(await call.runtime.store.read(api_keys.get, call.id("key")), "key"))
    )


def revoker(gate: Authenticator) -> Handler:
    """Return the handler that revokes a key, which that gate forgets at once."""

    @operation("Revoke a key", answers={204: None})
    async def revoke(call: RequestContext) -> Response:
        """For good: in this process at once, open streams too, and in others within seconds."""
        now = call.runtime.clock.now()
        if not await call.runtime.store.write(api_keys.revoke, call.id("key"), now):
            found(None, "key")
        gate.forget()
        return Response(status_code=204)

    return revoke
