"""Accounts, API keys and the signing key. Credentials are never shown, new keys only once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypedDict

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import Capability
from orchestrator.schemas.base import Json, OpenEnum, Shape, rfc3339_or_none
from orchestrator.schemas.example_values import CREATED, FINISHED, IDS
from orchestrator.schemas.stats import LatencyCount
from orchestrator.schemas.submissions import AccountInput


class RefusedPushes(Shape):
    """Pushes with a valid callback URL that were refused for their signature."""

    unsigned: Annotated[int, Field(description="A signature is required, and there was none.")]
    stale: Annotated[int, Field(description="The timestamp was too far from our clock.")]
    mismatched: Annotated[int, Field(description="No signature matched a configured secret.")]
    last_at: AwareDatetime | None


class Hold(Shape):
    """Why no job of an account is submitted: its queued jobs wait, and no job fails for it."""

    reason: Annotated[
        Literal["unauthorized", "exhausted"],
        OpenEnum,
        Field(description="The vendor refuses the credentials, or the balance is used up."),
    ]
    since: AwareDatetime
    message: Annotated[str, Field(description="The vendor's answer.")]
    next_check_at: Annotated[
        AwareDatetime | None,
        Field(
            description="When it is seen whether the vendor accepts the account again: by a check, "
            "or by one job where a check does not show it."
        ),
    ]


class ModelLatency(Shape):
    """Seconds from submission to the end of a model's jobs, as learned; the newest count most.

    Jobs that failed count too. Measured latencies are in `GET /v1/accounts/{name}/history`.
    """

    p50: float | None
    p95: float | None
    p99: float | None
    samples: int
    counts: Annotated[
        list[LatencyCount],
        Field(default_factory=list, description="Bounds without jobs are left out."),
    ]


class Account(Shape):
    """A configured vendor account and its statistics; never its credentials."""

    object: Literal["account"]
    name: str
    vendor: str
    capabilities: list[Annotated[Capability, OpenEnum]]
    models: Annotated[
        dict[str, list[str]],
        Field(
            default_factory=dict,
            description="The models that the vendor's documents name, for each capability.",
        ),
    ]
    inputs: Annotated[
        dict[str, AccountInput],
        Field(
            default_factory=dict,
            description="The fields of an `input` that the account takes, for each capability.",
        ),
    ]
    lookup: Annotated[
        str, Field(description="How the vendor can be queried about a lost submission.")
    ]
    in_flight: int
    max_in_flight: int
    rate_limit: float | None
    pushes: int
    pushes_missed: int
    pushes_degraded: Annotated[
        bool,
        Field(
            description="Pushes go missing. False without a job in flight or in the last hour: "
            "nothing shows it then."
        ),
    ]
    pushes_refused: RefusedPushes | None = None
    signing_secrets: Annotated[
        int,
        Field(description="How many `webhook_secrets` are configured: of what verifies pushes."),
    ] = 0
    expects_pushes: Annotated[
        bool,
        Field(
            description="False: this vendor pushes nothing, and status queries find the results."
        ),
    ] = True
    polls: int
    latency: Annotated[
        dict[str, ModelLatency],
        Field(default_factory=dict, description="What is expected of a job, by model: learned."),
    ]
    push_loss: Annotated[
        float | None,
        Field(
            description="The share of recent completions whose push was lost, those left out that "
            "ended while pushes had stopped; null: not known."
        ),
    ] = None
    polls_per_job: Annotated[
        float | None, Field(description="Of the jobs that ended in the last days.")
    ] = None
    polls_saved: Annotated[
        int, Field(description="How many more the fixed policy would have needed, at most.")
    ] = 0
    last_push_at: AwareDatetime | None
    paused_until: Annotated[
        AwareDatetime | None,
        Field(description="The vendor limits submissions; null if it is over."),
    ]
    held: Annotated[Hold | None, Field(description="Null: its jobs are submitted.")] = None


class AccountCheck(Shape):
    """The vendor's response to a query that costs nothing."""

    object: Literal["account_check"]
    account: str
    reachable: Annotated[bool, Field(description="A response arrived, whatever it was.")]
    authorized: Annotated[
        bool | None,
        Field(description="The credentials were accepted; null where the response does not show."),
    ]
    detail: Annotated[str, Field(description="The result in words.")]
    status: Annotated[int | None, Field(description="The HTTP status of the response.")]
    vendor_code: str | int | None
    vendor_message: str | None
    latency_ms: int | None
    clock_skew_seconds: Annotated[
        float | None, Field(description="How far the vendor's clock is ahead of ours.")
    ]
    checked_at: AwareDatetime


class ApiKeyColumns(TypedDict):
    """The columns of `api_key` that `api_key_json` reads: all but the digest."""

    id: str
    name: str
    prefix: str
    scope: str
    rate_limit: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKey(Shape):
    """A caller's API key; the key itself is not stored."""

    object: Literal["api_key"]
    id: str
    name: str
    prefix: str
    scope: Annotated[Literal["read", "write", "admin"], OpenEnum]
    rate_limit: Annotated[
        int | None, Field(description="Requests a minute; 0: unlimited, null: as the settings say.")
    ]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None


class NewApiKey(ApiKey):
    """A new key: `key` is shown only here."""

    key: str


class SigningKey(Shape):
    """The secret that verifies the deliveries to a job's own `callback_url`."""

    object: Literal["signing_key"]
    secret: str


def api_key_json(row: ApiKeyColumns) -> Json:
    """Return an API key as JSON, without its digest."""
    return {
        "object": "api_key",
        "id": row["id"],
        "name": row["name"],
        "prefix": row["prefix"],
        "scope": str(row["scope"]),
        "rate_limit": row["rate_limit"],
        "created_at": rfc3339_or_none(row["created_at"]),
        "expires_at": rfc3339_or_none(row["expires_at"]),
        "revoked_at": rfc3339_or_none(row["revoked_at"]),
        "last_used_at": rfc3339_or_none(row["last_used_at"]),
    }


_KEY: ApiKeyColumns = {
    "id": IDS["key"], "name": "the shop", "prefix": "orc_Rk3vTq", "scope": "write",
    "rate_limit": None, "created_at": CREATED, "expires_at": None, "revoked_at": None,
    "last_used_at": FINISHED,
}  # fmt: skip
API_KEY_EXAMPLE = api_key_json(_KEY)
