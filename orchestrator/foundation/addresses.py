"""Addresses whose query, user name or password may be secrets: compared, and shown without.

URLs of the web are parsed by httpx, as they are when a request is sent: two parsers may disagree
about the host. Others have the form of `broker_addresses`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import parse_qsl

import httpx

from orchestrator.foundation import broker_addresses
from orchestrator.foundation.masking import MASK

#: A part of an address with fewer characters is no secret, and occurs in other text by chance.
_SHORTEST_SECRET = 6
#: Characters of a part of a path that is a secret.
_SHORTEST_PART = 16


def is_web(address: str) -> bool:
    """Return whether an address is one of HTTP."""
    return address[:8].lower().startswith(("http:", "https:"))


def origin(url: str) -> str:
    """Return scheme, host and port of a URL; the default port is left out (RFC 6454).

    The origin of an address without a host is all of it.
    """
    if not is_web(url):
        return broker_addresses.origin(url)
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def canonical(url: str) -> str:
    """Return a URL in the spelling that all URLs of the same address share, without a fragment."""
    if not is_web(url):
        return broker_addresses.canonical(url)
    return str(httpx.URL(url).copy_with(fragment=None))


def shown(url: str) -> str:
    """Return a URL without user name, password, query and fragment."""
    if not is_web(url):
        return broker_addresses.shown(url)
    path = httpx.URL(url).raw_path.partition(b"?")[0].decode("ascii")
    return origin(url) + (path if path != "/" or url.partition("?")[0].endswith("/") else "")


def hidden(url: str) -> str:
    """Return what may be shown of an address that is a secret: its origin, or its scheme."""
    return f"{origin(url)}/…" if is_web(url) else broker_addresses.hidden(url)


def masked(
    text: str, url: str, *, has_secret_path: bool = False, credentials: Iterable[str] = ()
) -> str:
    """Return a text in which what its receiver may repeat of our secrets is masked.

    They are the query of its URL, the path where that is one, and credentials that it was sent.
    """
    others = [secret for secret in credentials if len(secret) >= _SHORTEST_SECRET]
    for secret in (*_secrets(url, has_secret_path), *sorted(others, key=len, reverse=True)):
        text = text.replace(secret, MASK)
    return text


@lru_cache(maxsize=1024)
def _secrets(url: str, has_secret_path: bool) -> tuple[str, ...]:
    """Return the query of a URL, the values in it and long parts of a secret path, longest first.

    A short part of a path is a word, such as `webhooks`.
    """
    if not is_web(url):
        found = broker_addresses.secrets(url, is_secret=has_secret_path)
        return tuple(sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len)[::-1])
    parsed = httpx.URL(url)
    query = parsed.query.decode("ascii")
    found = {query, *(value for _, value in parse_qsl(query))}
    secrets = [secret for secret in found if len(secret) >= _SHORTEST_SECRET]
    if has_secret_path:
        secrets += [part for part in parsed.path.split("/") if len(part) >= _SHORTEST_PART]
    return tuple(sorted(secrets, key=len, reverse=True))
