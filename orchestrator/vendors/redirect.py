"""A redirect in place of an answer: a definite refusal, with the address that it names.

303 alone is a doubt: it leads to the result of a request that was carried out (RFC 9110, section
15.4.4). None is followed. The key belongs to the account's `base_url` alone, and a POST that is
sent again elsewhere may be a second task.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from orchestrator.foundation.addresses import shown
from orchestrator.foundation.errors import CutOff, Refused
from orchestrator.foundation.masking import MASK
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.untrusted import one_line

#: Characters of an address that are shown.
_SHOWN = 300


def redirection(
    account: Account, base_url: str, response: httpx.Response, mask: Callable[[str], str]
) -> Refused | CutOff | None:
    """Return the error that a redirect is; None for any other response.

    `mask` hides the credentials that the address may repeat. Its query and user are not shown.
    """
    if not response.has_redirect_location:
        return None
    target = mask(_target(base_url, response.headers["location"]))
    message = (
        f"{account.vendor} answered {response.status_code}, a redirect to {target}, which is not"
        f" followed: set accounts.{account.name}.base_url to where the API is"
    )
    if response.status_code == httpx.codes.SEE_OTHER:
        return CutOff(message, kind="bad_response")
    return Refused(message)


def _target(base_url: str, location: str) -> str:
    """Return the address of a `Location`, which may be relative, without its secrets."""
    try:
        url = httpx.URL(base_url + "/").join(location)
        address = shown(str(url))
    except (httpx.InvalidURL, ValueError):
        return "an address that is not valid"
    return one_line(address)[:_SHOWN] + (f"?{MASK}" if url.query else "")
