"""Is an account any good? One question to its vendor that costs nothing, and what the answer shows.

It asks for the state of a task that cannot exist. Vendors look at credentials first, so whatever they say of the task
says that they took them; what a gateway answers to a wrong address says nothing, and is told apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from orchestrator.egress.http_client import HttpClient
from orchestrator.foundation.clock import Clock, rfc3339
from orchestrator.foundation.errors import CutOff, Exchange, Refused, Unreadable
from orchestrator.foundation.json_codec import parse
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.error_codes import error_fields
from orchestrator.vendors.order import Order

#: Seconds for the question and its answer.
DEADLINE = 10.0
#: Kling's ids are as long as this and have been greater for years, on its gateways too; elsewhere they are no numbers.
_NOBODYS = "100000000000000001"
_CAP = 64 << 10
_SHOWN = 300
#: What a gateway says of a task it does not have, and what it says of an address it does not have (404, both).
_OF_A_TASK = re.compile(
    r"task|job|video|generation|\N{CJK UNIFIED IDEOGRAPH-4EFB}\N{CJK UNIFIED IDEOGRAPH-52A1}"
)
_OF_AN_ADDRESS = re.compile(r"\b(url|uri|route|path|endpoint|page)\b|invalid_url")
_WHY = {
    1003: "the vendor finds our token too young: is this machine's clock right?",
    1004: "the vendor finds our token too old: is this machine's clock right?",
    1304: "this machine's address is not on the account's list of allowed ones",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of it. `authorized` is None where the answer leaves that open; `detail` says all of it in words.

    `clock_skew_seconds` is how far the vendor's clock is ahead of ours, to the second: its `Date` is no finer.
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
        """Return it as JSON."""
        return {"object": "account_check", **asdict(self), "checked_at": rfc3339(self.checked_at)}


async def check_account(vendor: Vendor, internet: HttpClient, clock: Clock) -> CheckResult:
    """Ask the vendor of an account, for at most `DEADLINE` seconds. An answer that never came is a result too."""
    at, began = clock.now(), clock.monotonic()
    name = vendor.account.name
    try:
        response = await internet.send(
            probe_request(vendor), deadline=DEADLINE, cap=_CAP, overflow="truncate"
        )
    except Exchange as error:
        return CheckResult(name, False, None, str(error), None, None, None, None, None, at)
    took = clock.monotonic() - began
    said = _said(response)
    authorized, detail = _judged(vendor, response, said)
    code, message = error_fields(said)
    return CheckResult(
        account=name,
        reachable=True,
        authorized=authorized,
        detail=detail[:_SHOWN],
        status=response.status_code,
        vendor_code=code,
        vendor_message=message[:_SHOWN] if message else None,
        latency_ms=round(took * 1000),
        clock_skew_seconds=skew(response.headers, at, took),
        checked_at=at,
    )


def probe_request(vendor: Vendor) -> httpx.Request:
    """Return the request for the state of a task that is nobody's."""
    capability = min(vendor.forms)
    return vendor.inquiry([Order("", "", capability, {}, _NOBODYS, vendor_task_id=_NOBODYS)])


def skew(headers: Mapping[str, str], at: datetime, took: float) -> float | None:
    """Return how many seconds the clock behind a `Date` header is ahead of ours; None if it says nothing.

    `at` is when the request left, `took` the seconds until its answer was there.
    """
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, IndexError, OverflowError):
        return None
    # Whole seconds, cut off, and many servers write theirs anew only once a second.
    apart = (date if date.tzinfo else date.replace(tzinfo=UTC)) - at
    ahead = apart.total_seconds() + 0.5 - took / 2
    return 0.0 if abs(ahead) <= took / 2 + 2 else float(round(ahead))


def _said(response: httpx.Response) -> Any:
    try:
        return parse(response.content)
    except Unreadable:
        return None


def _judged(vendor: Vendor, response: httpx.Response, said: Any) -> tuple[bool | None, str]:
    """Return whether the vendor took our credentials, and in words why that is known."""
    try:
        vendor.read_answer(response)
    except Refused as error:
        return _refused(error, response.status_code, said), _WHY.get(_number(error), str(error))
    except CutOff as error:
        return None, str(error)
    if response.status_code == httpx.codes.NOT_FOUND and not _is_of_a_task(said):
        return None, f"{vendor.name} answered 404, and not about a task: is base_url right?"
    return True, f"{vendor.name} took the credentials"


def _number(error: Refused) -> int:
    return error.vendor_code if isinstance(error.vendor_code, int) else 0


def _refused(error: Refused, status: int, said: Any) -> bool | None:
    """Return what a no says of our credentials: it may be about them, or only about the task."""
    known = bool(_number(error)) or error.vendor_code is not None
    if error.code == "vendor_auth" or (status == httpx.codes.FORBIDDEN and not known):
        return False
    if error.code == "account_exhausted":
        return True
    if error.rate_limited:
        return True if known else None
    about_it = status in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY) and isinstance(
        said, Mapping
    )
    return True if about_it else None


def _is_of_a_task(said: Any) -> bool:
    words = " ".join(str(one) for one in error_fields(said) if one).lower()
    return bool(_OF_A_TASK.search(words)) and not _OF_AN_ADDRESS.search(words)
