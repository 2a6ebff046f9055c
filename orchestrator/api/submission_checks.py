"""Checks of a job before it is stored: its account, its start, its callback URL, its size."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from orchestrator.api import problems, request_body
from orchestrator.api.fields import MAX_AHEAD, TOO_LATE
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Blocked
from orchestrator.foundation.json_codec import encode
from orchestrator.schemas.base import Json
from orchestrator.vendors.contract import Vendor


def check_size(given: Json, metadata: Json) -> None:
    """Raise a 422 `Problem` if the job is too large for its events, which receivers read whole.

    As JSON that we write, a number may be several times as long as it was sent (`1e15`).
    """
    if len(encode(given)) + len(encode(metadata)) > request_body.BODY_CAP:
        message = f"Written out, input and metadata have more than {request_body.BODY_CAP} bytes"
        raise problems.invalid_field("/input", "too_large", message)


def start_of(given: datetime | float | None, now: datetime) -> datetime | None:
    """Return when a job may start: None for at once, also for a time that has passed.

    `given` is an instant, or seconds from now. Raises a 422 `Problem` if it is too far ahead.
    """
    start = after(now, given) if isinstance(given, float) else given
    if start is not None and start > after(now, MAX_AHEAD):
        raise problems.invalid_field("/start_after", *TOO_LATE)
    return start if start is not None and start > now else None


def vendor_of(vendors: Mapping[str, Vendor], account: str | None) -> Vendor:
    """Return the vendor of an account, or of the only account. Raises a 422 `Problem`."""
    if account is None and len(vendors) == 1:
        return next(iter(vendors.values()))
    if account is None:
        message = f"Name one of {len(vendors)} accounts; GET /v1/accounts lists them"
        raise problems.invalid_field("/account", "missing", message)
    if account not in vendors:
        message = "No such account; GET /v1/accounts lists them"
        raise problems.invalid_field("/account", "unknown_account", message)
    return vendors[account]


def check_url(policy: AddressPolicy, pointer: str, url: str | None) -> None:
    """Raise a 422 `Problem` for a URL that can be seen to be unreachable."""
    if url is not None:
        try:
            # Both parsers have to accept it: this one finds the origin, the policy's the address.
            urlsplit(url)
            policy.check_url(url)
        except (Blocked, ValueError) as error:
            raise problems.invalid_field(pointer, "blocked_address", str(error)) from None
