"""Accounts: how each vendor is doing. Its keys stay in the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, found, reply
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, listed
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.jobs import capacity
from orchestrator.schemas.base import rfc3339_or_none
from orchestrator.vendors.contract import Vendor

Row = Mapping[Any, Any]


class AccountQuery(PageRequest):
    """`GET /v1/accounts`: by name, so a name is the cursor."""

    prefix = ""

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True for anything that could be a name."""
        return 1 <= len(value) <= 64


@operation("List accounts", answers={200: answer(schemas.Page[schemas.Account], "Link")})
async def ls(call: RequestContext, query: AccountQuery) -> Response:
    """By name; a name is the cursor."""
    names = [
        name for name in sorted(call.runtime.vendors) if query.after is None or name > query.after
    ]
    page = [call.runtime.vendors[name] for name in names[: query.limit + 1]]
    return listed(
        call,
        await call.runtime.store.read(_read, page),
        query,
        dict,
        lambda said: str(said["name"]),
    )


@operation("Get an account", answers={200: schemas.Account})
async def show(call: RequestContext) -> Response:
    """How the vendor is doing: what is in flight, what was pushed and what had to be asked for."""
    vendor = found(call.runtime.vendors.get(call.request.path_params["name"]), "account")
    return reply((await call.runtime.store.read(_read, [vendor]))[0])


@operation("Get the signing key", answers={200: schemas.SigningKey})
async def signing_key(call: RequestContext) -> Response:
    """What verifies the deliveries to a job's own `callback_url`."""
    return reply({"object": "signing_key", "secret": call.runtime.keys.callback_secrets[0]})


def _read(tx: Tx, vendors: Iterable[Vendor]) -> list[dict[str, Any]]:
    rows = {row["account"]: row for row in tx.execute(sa.select(account_state)).mappings()}
    return [
        _shown(one, rows.get(one.account.name, {}), capacity.in_flight(tx, one.account.name))
        for one in vendors
    ]


def _shown(vendor: Vendor, row: Row, in_flight: int) -> dict[str, Any]:
    return {
        "object": "account",
        "name": vendor.account.name,
        "vendor": vendor.name,
        "capabilities": sorted(vendor.capabilities),
        "lookup": vendor.lookup,
        "in_flight": in_flight,
        "max_in_flight": vendor.account.max_in_flight,
        "rate_limit": vendor.account.rate_limit,
        "pushes": row.get("pushes", 0),
        "pushes_missed": row.get("pushes_missed", 0),
        "pushes_degraded": row.get("degraded", False),
        "polls": row.get("polls", 0),
        "last_push_at": rfc3339_or_none(row.get("last_push_at")),
        "paused_until": rfc3339_or_none(row.get("paused_until")),
    }
