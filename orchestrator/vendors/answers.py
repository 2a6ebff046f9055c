"""Answers over HTTP: the value of a body, and what a response without a task means.

A redirect in place of an answer is a definite refusal, with the address that it names. 303 alone is
a doubt: it leads to the result of a request that was carried out (RFC 9110, section 15.4.4). None
is followed. The key belongs to the account's `base_url` alone, and a POST that is sent again
elsewhere may be a second task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from orchestrator.foundation import lenient_json
from orchestrator.foundation.addresses import shown
from orchestrator.foundation.errors import CutOff, Refused, Unreadable
from orchestrator.foundation.masking import MASK
from orchestrator.foundation.retry_after import rate_limit_reset, retry_after
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.untrusted import one_line
from orchestrator.vendors.error_codes import classify

#: Characters of an address that are shown, and bytes of plain text.
_ADDRESS_CAP, _TEXT_CAP = 300, 500


@dataclass(frozen=True, slots=True)
class Answers:
    """Reads the answers to the requests of one account, with `credentials` masked."""

    account: Account
    base_url: str
    credentials: Sequence[bytes]

    def body(self, response: httpx.Response) -> Any:
        """Return the parsed body, None if it is not JSON. Raises `CutOff` if too little arrived.

        JSON ends by itself, so a success that broke off after it is whole. An error without all of
        its words proves nothing: its code may say that the task exists.
        """
        body = parsed(response, self.credentials)
        partial: str | None = response.extensions.get("partial")
        if partial and (body is None or not response.is_success):
            answered = f"{self.account.vendor} answered {response.status_code}"
            raise CutOff(f"{answered}, then: {partial}", kind=partial)
        return body

    def error(self, response: httpx.Response, body: Any, now: datetime) -> Refused | CutOff | None:
        """Return the error that a response without a task means, or None if it is not one."""
        status = response.status_code
        if response.has_redirect_location:
            return self._redirection(status, response.headers["location"])
        if body is None and response.headers.get("content-type", "").startswith("text/plain"):
            text = without_credentials(response.content, self.credentials)[:_TEXT_CAP]
            body = {"message": " ".join(text.decode("utf-8", "replace").split())}
        wait = retry_after(response.headers, now)
        if wait is None and status == httpx.codes.TOO_MANY_REQUESTS:
            wait = rate_limit_reset(response.headers, now)
        return classify(self.account.vendor, status, body, wait=wait)

    def _redirection(self, status: int, location: str) -> Refused | CutOff:
        """Return the error that a redirect is. The query and the user of its address are hidden."""
        try:
            url = httpx.URL(self.base_url + "/").join(location)
            address = one_line(shown(str(url)))[:_ADDRESS_CAP] + (f"?{MASK}" if url.query else "")
        except (httpx.InvalidURL, ValueError):
            address = "an address that is not valid"
        address = without_credentials(address.encode(), self.credentials).decode()
        message = (
            f"{self.account.vendor} answered {status}, a redirect to {address}, which is not"
            f" followed: set accounts.{self.account.name}.base_url to where the API is"
        )
        is_doubt = status == httpx.codes.SEE_OTHER
        return CutOff(message, kind="bad_response") if is_doubt else Refused(message)


def parsed(response: httpx.Response, credentials: Sequence[bytes]) -> Any:
    """Return the JSON value of a response's body with credentials masked, or None if not JSON."""
    try:
        return json_value(response.content, credentials, response.charset_encoding or "")
    except Unreadable:
        return None


def json_value(body: bytes, credentials: Sequence[bytes], charset: str = "") -> Any:
    """Return the value of JSON or almost-JSON, credentials masked. Raises `NotJson`."""
    masked = without_credentials(lenient_json.as_utf8(body), credentials)
    return lenient_json.respelled(lenient_json.read(masked, charset))


def without_credentials(body: bytes, credentials: Sequence[bytes]) -> bytes:
    """Return a body with credentials masked."""
    for credential in credentials:
        body = body.replace(credential, MASK.encode())
    return body
