"""API keys: created, listed and revoked, by admins. A key is shown only when it is created."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.auth import api_keys
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, page_of
from orchestrator.api.requests import NewKey
from orchestrator.schemas.accounts import api_key_json


class KeyQuery(PageRequest):
    """`GET /v1/keys`."""

    prefix = "key"


@operation("Create a key", responses={201: returns(schemas.NewApiKey, "Location")})
async def create(context: RequestContext, body: NewKey) -> Response:
    """The key itself is shown only here."""
    runtime = context.runtime
    now = runtime.clock.now()
    if body.expires_at is not None and body.expires_at <= now:
        raise problems.invalid_field("/expires_at", "past", "This is in the past")
    row, secret = api_keys.new(runtime.ids, now=now, **body.model_dump())
    await runtime.store.write(api_keys.add, row)
    location = {"location": f"{runtime.base}/v1/keys/{row['id']}"}
    return reply(api_key_json(row) | {"key": secret}, 201, location)


@operation("List keys", responses={200: returns(schemas.Page[schemas.ApiKey], "Link")})
async def ls(context: RequestContext, query: KeyQuery) -> Response:
    """Newest first, revoked ones too. Keys of the configuration are not included."""
    read = partial(api_keys.ls, limit=query.limit + 1, after=query.after)
    return page_of(context, await context.runtime.store.read(read), query, api_key_json)


@operation("Get a key", responses={200: schemas.ApiKey})
async def show(context: RequestContext) -> Response:
    """Its scope, its expiry, and its last use, to the minute."""
    row = await context.runtime.store.read(api_keys.get, context.id("key"))
    return reply(api_key_json(or_not_found(row, "key")))


@operation("Revoke a key", responses={204: None})
async def revoke(context: RequestContext) -> Response:
    """For good: in this process at once, open streams too, and in others within seconds."""
    now = context.runtime.clock.now()
    known = await context.runtime.store.write(api_keys.revoke, context.id("key"), now)
    or_not_found(known or None, "key")
    context.authenticator.forget_keys()
    return Response(status_code=204)
