"""Requests for the files of a job: which of them carry the key of the account."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from orchestrator.foundation.errors import Unreadable
from orchestrator.vendors.contract import Vendor


def file_request(url: str, fields: Mapping[str, str], keyed: Vendor | None) -> httpx.Request:
    """Return a GET of a file with these header fields.

    It carries the key of `keyed`, if there is one, and only to the origin of its base URL. Raises
    `Unreadable` for text that is not a URL.
    """
    key = keyed.headers() if keyed is not None and is_at_vendor(url, keyed) else {}
    return httpx.Request("GET", _parsed(url), headers={**fields, **key})


def is_at_vendor(url: str, vendor: Vendor) -> bool:
    """Return whether a URL has scheme, host and port of a vendor's base URL.

    Raises `Unreadable` for text that is not a URL.
    """
    return _origin(url) == _origin(vendor.base_url)


def redirect_target(response: httpx.Response, url: str) -> str:
    """Return where a response redirects a GET of `url` to. Raises `Unreadable`."""
    try:
        return str(_parsed(url).join(response.headers["location"]))
    except (httpx.InvalidURL, ValueError):
        raise Unreadable("it redirects to text that is not a URL") from None


def _origin(url: str) -> tuple[str, str, int | None]:
    parsed = _parsed(url)
    return parsed.scheme, parsed.host, parsed.port


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise Unreadable("the address of the file is not a URL") from None
