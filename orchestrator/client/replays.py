"""`client.replays`: deliveries made due again, in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orchestrator.client.pages import Listing, listed
from orchestrator.client.requests import Request, given, path, several
from orchestrator.client.responses import read
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import Page, Replay, ReplayCount


def wish(
    *,
    subscriber: str | None = None,
    event: str | None = None,
    status: str | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    types: str | Sequence[str] | None = None,
    missed: bool = False,
    rate: float | None = None,
) -> dict[str, object]:
    """Return what is to be replayed as the API takes it."""
    said = given(
        subscriber=subscriber,
        event=event,
        status=status,
        since=since,
        until=until,
        types=several(types),
        rate=rate,
    )
    return said | ({"missed": True} if missed else {})


class Replays(Resource[FaceT]):
    """Replays: begun, counted beforehand, followed, ended."""

    @offered
    async def create(
        self,
        *,
        subscriber: str | None = None,
        event: str | None = None,
        status: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        types: str | Sequence[str] | None = None,
        missed: bool = False,
        rate: float | None = None,
    ) -> Replay:
        """Make deliveries due again: of one subscriber or all, of one event or all, begun in [since, until).

        `status` is the state they are in, by default `dead`. With `missed` it is instead about events the subscriber
        wants and was never owed. `rate` is how many are made due a second.

        >>> client.replays.create(subscriber="sub_01...", since="2026-11-20T00:00:00Z").count
        12
        """
        body = wish(
            subscriber=subscriber, event=event, status=status, since=since, until=until, types=types,
            missed=missed, rate=rate,
        )  # fmt: skip
        return read(Replay, await self._wire.call(Request("POST", path("replays"), json=body)))

    @offered
    async def count(
        self,
        *,
        subscriber: str | None = None,
        event: str | None = None,
        status: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        types: str | Sequence[str] | None = None,
        missed: bool = False,
    ) -> ReplayCount:
        """Return what `create` would be about, without changing anything."""
        body = wish(
            subscriber=subscriber,
            event=event,
            status=status,
            since=since,
            until=until,
            types=types,
            missed=missed,
        )
        request = Request("POST", path("replays"), json={**body, "dry_run": True})
        return read(ReplayCount, await self._wire.call(request))

    @offered
    async def get(self, replay_id: str) -> Replay:
        """Return a replay: how far it has come."""
        return read(Replay, await self._wire.call(Request("GET", path("replays", replay_id))))

    @listed
    def list(self, *, status: str | None = None, page_size: int = 100) -> Listing[Replay]:
        """Return replays, newest first."""
        query = {"status": status, "limit": page_size}
        return Listing(self._wire, Page[Replay], Request("GET", path("replays"), query=query))

    @offered
    async def cancel(self, replay_id: str) -> Replay:
        """Make nothing more due. What was made due is delivered. Raises `Conflict` if it is over already."""
        return read(
            Replay, await self._wire.call(Request("POST", path("replays", replay_id, "cancel")))
        )
