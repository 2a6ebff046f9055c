"""Accounts and keys: theirs stay secret, ours are shown once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import Capability
from orchestrator.schemas.base import Growing, Json, Row, Shape, rfc3339_or_none


class Account(Shape):
    """A configured vendor and how it is doing; never its keys."""

    object: Literal["account"]
    name: str
    vendor: str
    capabilities: list[Annotated[Capability, Growing]]
    lookup: Annotated[
        str, Field(description="How the vendor can be asked about a lost submission.")
    ]
    in_flight: int
    max_in_flight: int
    rate_limit: float | None
    pushes: int
    pushes_missed: int
    pushes_degraded: bool
    polls: int
    last_push_at: AwareDatetime | None
    paused_until: AwareDatetime | None


class AccountCheck(Shape):
    """What a vendor said when it was asked a harmless question."""

    object: Literal["account_check"]
    account: str
    reachable: Annotated[bool, Field(description="An answer came, whatever it was.")]
    authorized: Annotated[
        bool | None, Field(description="Credentials taken; null where the answer leaves that open.")
    ]
    detail: Annotated[str, Field(description="All of it in words.")]
    status: Annotated[int | None, Field(description="The answer's HTTP status.")]
    vendor_code: str | int | None
    vendor_message: str | None
    latency_ms: int | None
    clock_skew_seconds: Annotated[
        float | None, Field(description="How far the vendor's clock is ahead of ours.")
    ]
    checked_at: AwareDatetime


class ApiKey(Shape):
    """A caller's key; the key itself is kept nowhere."""

    object: Literal["api_key"]
    id: str
    name: str
    prefix: str
    scope: Literal["read", "write", "admin"]
    rate_limit: Annotated[
        int | None,
        Field(description="Requests a minute; 0: any number, null: as many as the settings say."),
    ]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None


class NewApiKey(ApiKey):
    """A key that was just made: `key` is shown this once."""

    key: str


class SigningKey(Shape):
    """What verifies the deliveries to a job's own `callback_url`."""

    object: Literal["signing_key"]
    secret: str


def api_key_json(row: Row) -> Json:
    """Return an API key, without its digest."""
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "object": "api_key",
        **{name: row[name] for name in ("id", "name", "prefix", "scope", "rate_limit")},
        **{name: rfc3339_or_none(row[name]) for name in times},
    }
