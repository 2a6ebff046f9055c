"""A transport that is loaded after a start: a service is ready before it has what connects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import httpx

from orchestrator.foundation.errors import ConfigError, NotSent


class LateTransport(httpx.AsyncBaseTransport):
    """Makes its transport, on a thread, when it is entered or with the first request.

    To import aiohttp, and to read the authorities of the system, takes a fifth of a start.
    """

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._made: httpx.AsyncBaseTransport | None = None
        self._making = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Make the transport. Raises `ConfigError` for authorities that were usable before."""
        await self._load()
        return self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response of the transport. Raises `NotSent` if it cannot be made."""
        # The deadline of a request may end meanwhile.
        request.extensions["sent"] = False
        try:
            transport = self._made or await self._load()
        except ConfigError as error:
            raise NotSent(f"{request.url.host}: {error}", kind="tls_error") from error
        return await transport.handle_async_request(request)

    async def _load(self) -> httpx.AsyncBaseTransport:
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
        return self._made

    async def aclose(self) -> None:
        """Close the transport, if there is one."""
        if self._made is not None:
            await self._made.aclose()
