"""A GET of a file: at a URL that others wrote, guarded, without credentials; or at our server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx

from orchestrator import __version__
from orchestrator.cli.access import Access
from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import clean, one_line
from orchestrator.client import way
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.foundation.errors import Blocked

_TIMEOUT = httpx.Timeout(30, connect=10)
#: Seconds for the head of a response. A read timeout alone does not end one that arrives slowly.
_HEAD = 60.0
#: Bytes of a problem document.
_PROBLEM_CAP = 64 << 10
_REDIRECTS = 5
_REDIRECT_CODES = frozenset({301, 302, 303, 307, 308})
#: Other hosts get no API key. A compressed file is refused.
_HEADERS = {"user-agent": f"orchestrator-cli/{__version__}", "accept-encoding": "identity"}


@contextlib.asynccontextmanager
async def fetched(url: str, policy: AddressPolicy) -> AsyncIterator[httpx.Response]:
    """Yield the response behind up to five redirects, each checked, its body unread.

    Raises `Failure`, `httpx.HTTPError`, `httpx.InvalidURL` or `TimeoutError`.
    """
    first = clean(url)
    for _ in range(_REDIRECTS + 1):
        async with _opened(url, policy) as response:
            to = response.headers.get("location", "")
            if response.status_code not in _REDIRECT_CODES or not to:
                yield response
                return
            url = str(httpx.URL(url).join(to))
    raise Failure(f"{first} redirects more than {_REDIRECTS} times")


@contextlib.asynccontextmanager
async def served(access: Access, path: str) -> AsyncIterator[httpx.Response]:
    """Yield the response of a command's server, which gets its API key, the body unread.

    No redirect is followed. Raises `Failure` if the server states why there is no file,
    `httpx.HTTPError` or `TimeoutError`.
    """
    key = {"authorization": f"Bearer {access.bearer()}"} if access.bearer else {}
    options = way(access.server)
    async with httpx.AsyncClient(timeout=_TIMEOUT, headers=_HEADERS | key, **options) as http:
        request = http.build_request("GET", access.server + path)
        async with asyncio.timeout(_HEAD):
            response = await http.send(request, stream=True, follow_redirects=False)
        try:
            if response.is_error and (why := await _detail(response)):
                hint = "the job itself has succeeded; `orchestrator jobs show` has its outputs"
                raise Failure(f"{path} was not downloaded: {why}", hint=hint)
            yield response
        finally:
            await response.aclose()


async def _detail(response: httpx.Response) -> str:
    """Return the detail of a problem document; empty if the body is none."""
    body = b""
    async with asyncio.timeout(_HEAD):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _PROBLEM_CAP:
                return ""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        return one_line(document.get("detail")) if isinstance(document, dict) else ""
    return ""


@contextlib.asynccontextmanager
async def _opened(url: str, policy: AddressPolicy) -> AsyncIterator[httpx.Response]:
    """Connect to an address of the host that the policy allows: the one that was checked."""
    parsed, options = httpx.URL(url), None
    try:
        policy.check_url(url)
        options = way(url)
        addresses = [parsed.host] if options["proxy"] else await _resolved(parsed, policy)
    except Blocked as error:
        hint = "allow_private, or ORCHESTRATOR_ALLOW_PRIVATE, names networks that may be reached"
        raise Failure(f"{clean(url)} is not fetched: {error}", hint=hint) from error
    async with httpx.AsyncClient(timeout=_TIMEOUT, headers=_HEADERS, **options) as http:
        response = await _first(http, parsed, addresses)
        try:
            yield response
        finally:
            await response.aclose()


async def _resolved(url: httpx.URL, policy: AddressPolicy) -> list[str]:
    host = url.raw_host.decode("ascii")
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        return await asyncio.to_thread(policy.resolve, host, port)
    except OSError as error:
        raise httpx.ConnectError(f"{host} does not resolve ({error.strerror})") from error


async def _first(http: httpx.AsyncClient, url: httpx.URL, addresses: list[str]) -> httpx.Response:
    """Return the response of the first address that accepts a connection."""
    for left, address in zip(reversed(range(len(addresses))), addresses, strict=True):
        # TLS verifies the name, not the address.
        request = http.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            async with asyncio.timeout(_HEAD):
                return await http.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if not left:
                raise
    raise httpx.ConnectError("the host has no address")
