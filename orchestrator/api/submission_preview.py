"""The preview of a submission: the vendor's request, without credentials and tokens."""

from __future__ import annotations

import httpx

from orchestrator.foundation.errors import Unreadable
from orchestrator.foundation.masking import MASK, without_password
from orchestrator.jobs.intake import Draft, order_of
from orchestrator.schemas.base import Json
from orchestrator.vendors.answers import json_value, without_credentials
from orchestrator.vendors.contract import Vendor

#: Header fields that are shown. Any other may hold a credential, or a signature made with one.
_SHOWN = ("host", "content-type", "content-length", "accept")


def vendor_request(vendor: Vendor, draft: Draft, base: str) -> Json:
    """Return the request that would submit a draft, as JSON. Raises a 422 `Problem`.

    The token of its callback URL is not made. Images in Base64 are references.
    """
    callback = f"{base}/callbacks/{vendor.account.name}/{MASK}" if vendor.pushes else None
    request = vendor.submit_request(order_of(draft, callback))
    url = without_credentials(str(request.url).encode(), vendor.credentials).decode()
    return {
        "object": "vendor_request",
        "account": vendor.account.name,
        "vendor": vendor.name,
        "model": draft["model"],
        "capability": draft["capability"],
        "is_known_model": vendor.knows_model(draft["model"]),
        "method": request.method,
        "url": without_password(url),
        "headers": {
            name: value if name in _SHOWN else MASK for name, value in request.headers.items()
        },
        "body": _body(request, vendor),
    }


def _body(request: httpx.Request, vendor: Vendor) -> object:
    try:
        return json_value(request.read(), vendor.credentials)
    except Unreadable:
        # A form of a plug-in: its text may hold what cannot be masked.
        return None
