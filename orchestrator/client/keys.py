"""`client.keys`: API keys. Every call needs a key with the scope `admin`."""

from __future__ import annotations

from datetime import datetime

from orchestrator.client.pages import Listing, listed
from orchestrator.client.requests import Request, given, path
from orchestrator.client.responses import read
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import ApiKey, NewApiKey, Page


class Keys(Resource[FaceT]):
    """API keys. All of this needs a key with the scope `admin`."""

    @offered
    async def create(
        self,
        name: str,
        *,
        scope: str = "write",
        expires_at: datetime | str | None = None,
        rate_limit: int | None = None,
    ) -> NewApiKey:
        """Return a new key; `key` is shown this once. Scopes: `read`, `write`, `admin`.

        `rate_limit` is in requests a minute; 0 is any number, None as many as the server's settings say.
        """
        body = given(name=name, scope=scope, expires_at=expires_at, rate_limit=rate_limit)
        return read(NewApiKey, await self._wire.call(Request("POST", path("keys"), json=body)))

    @listed
    def list(self, *, page_size: int = 100) -> Listing[ApiKey]:
        """Return all keys, newest first."""
        return Listing(
            self._wire, Page[ApiKey], Request("GET", path("keys"), query={"limit": page_size})
        )

    @offered
    async def revoke(self, key_id: str) -> None:
        """End a key, at once or within seconds."""
        await self._wire.call(Request("DELETE", path("keys", key_id)))
