"""Accounts: the state of each vendor account, without its credentials; and the signing key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.account_learning import learned_json
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, page_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.database.tables.rows import AccountStateRow, fetch
from orchestrator.engine.runtime import Runtime
from orchestrator.jobs import capacity, push_health
from orchestrator.jobs.holds import hold_json
from orchestrator.schemas.base import Json, rfc3339_or_none
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.field_mapping import RequestMapping


class AccountQuery(PageRequest):
    """`GET /v1/accounts`: sorted by name, so a name is the cursor."""

    prefix = ""

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True for any text that could be a name."""
        return 1 <= len(value) <= 64


@operation("List accounts", responses={200: returns(schemas.Page[schemas.Account], "Link")})
async def ls(context: RequestContext, query: AccountQuery) -> Response:
    """By name; a name is the cursor."""
    vendors = context.runtime.vendors
    names = sorted(name for name in vendors if query.after is None or name > query.after)
    page = [vendors[name] for name in names[: query.limit + 1]]
    shown = await _shown(context.runtime, page)
    return page_of(context, shown, query, dict, cursor="name")


@operation("Get an account", responses={200: schemas.Account})
async def show(context: RequestContext) -> Response:
    """The state of the vendor account: jobs in flight, pushes received, polls needed."""
    vendors = context.runtime.vendors
    vendor = or_not_found(vendors.get(context.request.path_params["name"]), "account")
    return reply((await _shown(context.runtime, [vendor]))[0])


@operation("Get the signing key", responses={200: schemas.SigningKey})
async def signing_key(context: RequestContext) -> Response:
    """What verifies the deliveries to a job's own `callback_url`."""
    return reply({"object": "signing_key", "secret": context.runtime.keys.callback_secrets[0]})


async def _shown(runtime: Runtime, vendors: Sequence[Vendor]) -> list[Json]:
    found = await runtime.store.read(_read, vendors, runtime.clock.now())
    learned = runtime.learning.learned
    return [one | learned_json(learned, vendor) for one, vendor in zip(found, vendors, strict=True)]


def _read(tx: Tx, vendors: Sequence[Vendor], now: datetime) -> list[Json]:
    states = {row["account"]: row for row in fetch(tx, AccountStateRow, sa.select(account_state))}
    return [_state(tx, vendor, states.get(vendor.account.name), now) for vendor in vendors]


def _state(tx: Tx, vendor: Vendor, row: AccountStateRow | None, now: datetime) -> Json:
    account, paused_until = vendor.account, row["paused_until"] if row else None
    degraded = bool(row and row["degraded"] and vendor.pushes)
    if paused_until is not None and paused_until <= now:
        paused_until = None
    return {
        "object": "account",
        "name": account.name,
        "vendor": vendor.name,
        "capabilities": sorted(vendor.capabilities),
        "models": {capability: list(names) for capability, names in vendor.models.items()},
        "inputs": {capability: _input(mapping) for capability, mapping in vendor.forms.items()},
        "lookup": vendor.lookup,
        "in_flight": capacity.in_flight(tx, account.name),
        "max_in_flight": account.max_in_flight,
        "rate_limit": account.rate_limit,
        "pushes": row["pushes"] if row else 0,
        "pushes_missed": row["pushes_missed"] if row else 0,
        "pushes_degraded": degraded and push_health.is_current(tx, account.name, now),
        "pushes_refused": {
            "unsigned": row["unsigned"] if row else 0,
            "stale": row["stale"] if row else 0,
            "mismatched": row["mismatched"] if row else 0,
            "last_at": rfc3339_or_none(row["last_refused_at"]) if row else None,
        },
        "signing_secrets": len(account.webhook_secrets),
        "expects_pushes": vendor.pushes,
        "polls": row["polls"] if row else 0,
        "last_push_at": rfc3339_or_none(row["last_push_at"]) if row else None,
        "paused_until": rfc3339_or_none(paused_until),
        "held": hold_json(row) if row and row["held_since"] else None,
    }


def _input(mapping: RequestMapping) -> Json:
    return {
        "fields": [*mapping.fields],
        "required": [*mapping.required],
        "exclusive": [[*group] for group in mapping.exclusive],
    }
