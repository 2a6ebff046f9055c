"""`client.keys`: API keys. Every call needs a key with the scope `admin`."""

from __future__ import annotations

from datetime import datetime

from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.requests import Request, get, json_fields, path, post
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import ApiKey, NewApiKey, Page


class Keys(Resource[ModeT]):
    """API keys. Every call needs a key with the scope `admin`."""

    @dual
    async def create(
        self,
        name: str,
        *,
        scope: str = "write",
        expires_at: datetime | str | None = None,
        rate_limit: int | None = None,
    ) -> NewApiKey:
        """Return a new key; only this response has `key`. Scopes: `read`, `write`, `admin`.

        `rate_limit` is in requests a minute: 0 is no limit, None the limit in the settings.
        """
        body = json_fields(name=name, scope=scope, expires_at=expires_at, rate_limit=rate_limit)
        return await self._call(NewApiKey, post("keys", json=body))

    @dual_list
    def list(self, *, page_size: int = 100) -> AsyncPages[ApiKey]:
        """Return all keys, newest first."""
        return AsyncPages(self._connection, Page[ApiKey], get("keys", limit=page_size))

    @dual
    async def revoke(self, key_id: str) -> None:
        """Revoke a key, at once or within seconds."""
        await self._connection.call(Request("DELETE", path("keys", key_id)))
