"""Account check: one free status query to the vendor, and what the response proves.

It asks for the state of a task that cannot exist. Vendors authenticate first, so any response about
the task proves that the credentials were accepted. A gateway's response about a wrong address
proves nothing and is recognised as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from orchestrator.egress.http_client import HttpClient
from orchestrator.foundation.clock import Clock, rfc3339
from orchestrator.foundation.errors import CutOff, Exchange, Refused
from orchestrator.vendors.answers import parsed
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.error_codes import error_fields
from orchestrator.vendors.order import Order

#: Seconds for the request and its response.
DEADLINE = 10.0
#: As long as Kling's ids, which have been greater for years; other vendors' ids are not numbers.
_UNKNOWN_TASK_ID = "100000000000000001"
#: Characters of a text that are shown.
_TEXT_CAP = 300
_HINTS = {
    1003: "the vendor finds our token not yet valid: is this machine's clock right?",
    1004: "the vendor finds our token expired: is this machine's clock right?",
    1304: "this machine's address is not on the account's allow list",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`authorized` is None where the response leaves it open; `detail` explains the result.

    `clock_skew_seconds` is how far the vendor's clock is ahead of ours, in whole seconds: the
    `Date` header is no finer.
    """

    account: str
    reachable: bool
    authorized: bool | None
    detail: str
    status: int | None
    vendor_code: str | int | None
    vendor_message: str | None
    latency_ms: int | None
    clock_skew_seconds: float | None
    checked_at: datetime

    def shown(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {"object": "account_check", **asdict(self), "checked_at": rfc3339(self.checked_at)}


async def check_account(vendor: Vendor, client: HttpClient, clock: Clock) -> CheckResult:
    """Query the vendor of an account, for at most `DEADLINE` seconds.

    A failed exchange is a result too: `reachable` is False.
    """
    at, began = clock.now(), clock.monotonic()
    name = vendor.account.name
    try:
        response = await client.send(probe_request(vendor), deadline=DEADLINE, body="answer")
    except Exchange as error:
        return CheckResult(name, False, None, str(error), None, None, None, None, None, at)
    took = clock.monotonic() - began
    body = parsed(response, vendor.credentials)
    authorized, detail = _assess(vendor, response, body)
    code, message = error_fields(body)
    return CheckResult(
        account=name,
        reachable=True,
        authorized=authorized,
        detail=detail[:_TEXT_CAP],
        status=response.status_code,
        vendor_code=code,
        vendor_message=message[:_TEXT_CAP] if message else None,
        latency_ms=round(took * 1000),
        clock_skew_seconds=skew(response.headers, at, took),
        checked_at=at,
    )


def probe_request(vendor: Vendor) -> httpx.Request:
    """Return the status query for a task that does not exist."""
    order = Order("", "", min(vendor.forms), {}, _UNKNOWN_TASK_ID, vendor_task_id=_UNKNOWN_TASK_ID)
    return vendor.inquiry([order])


def skew(headers: Mapping[str, str], at: datetime, took: float) -> float | None:
    """Return how many seconds the clock behind a `Date` header is ahead of ours; None without one.

    `at` is when the request left, `took` the seconds until the response was complete.
    """
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, IndexError, OverflowError):
        return None
    # `Date` is truncated to whole seconds, and many servers refresh it only once a second.
    difference = (date if date.tzinfo else date.replace(tzinfo=UTC)) - at
    ahead = difference.total_seconds() + 0.5 - took / 2
    return 0.0 if abs(ahead) <= took / 2 + 2 else float(round(ahead))


def _assess(vendor: Vendor, response: httpx.Response, body: Any) -> tuple[bool | None, str]:
    """Return whether the vendor accepted the credentials, and the evidence in words."""
    try:
        vendor.read_answer(response)
    except Refused as error:
        if response.status_code == httpx.codes.NOT_FOUND:
            # Gateways use 404 for an unknown task and for an unknown address.
            return None, f"{vendor.name} answered 404, and not about a task: is base_url right?"
        number = error.vendor_code if isinstance(error.vendor_code, int) else 0
        detail = _HINTS.get(number, str(error))
        return _accepted_despite(error, response.status_code, body), detail
    except CutOff as error:
        return None, str(error)
    return True, f"{vendor.name} accepted the credentials"


def _accepted_despite(error: Refused, status: int, body: Any) -> bool | None:
    """Return what a refusal proves: it may be about the credentials, or only about the task."""
    has_code = error.vendor_code is not None
    if error.code == "vendor_auth" or (status == httpx.codes.FORBIDDEN and not has_code):
        return False
    if error.code == "account_exhausted":
        return True
    if error.rate_limited:
        return True if has_code else None
    is_client_error = status in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)
    return True if is_client_error and isinstance(body, Mapping) else None
