"""`client.subscribers`: who is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from orchestrator.client.pages import Listing, listed
from orchestrator.client.replays import wish
from orchestrator.client.requests import UNSET, Request, Unset, given, path, several
from orchestrator.client.responses import read
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import (
    NewSubscriber,
    Page,
    Replay,
    RotatedSubscriber,
    Subscriber,
    TestEvent,
)


class Subscribers(Resource[FaceT]):
    """Subscribers: made, changed, paused, tried out."""

    @offered
    async def create(
        self,
        url: str,
        *,
        kind: str = "webhook",
        types: str | Sequence[str] | None = None,
        description: str | None = None,
        headers: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        rate_limit: float | None = None,
        max_in_flight: int | None = None,
    ) -> NewSubscriber:
        """Return a new subscriber; its `secret` is shown this once. Without `types` it hears of final jobs.

        >>> made = client.subscribers.create("https://my.app/hook", types=["job.*"])
        >>> webhook = Webhook(made.secret)
        """
        body = given(
            kind=kind,
            url=url,
            types=several(types),
            description=description,
            headers=headers,
            options=options,
            rate_limit=rate_limit,
            max_in_flight=max_in_flight,
        )
        return read(
            NewSubscriber, await self._wire.call(Request("POST", path("subscribers"), json=body))
        )

    @offered
    async def get(self, subscriber_id: str) -> Subscriber:
        """Return a subscriber."""
        return read(
            Subscriber, await self._wire.call(Request("GET", path("subscribers", subscriber_id)))
        )

    @listed
    def list(self, *, page_size: int = 100) -> Listing[Subscriber]:
        """Return all subscribers, newest first."""
        request = Request("GET", path("subscribers"), query={"limit": page_size})
        return Listing(self._wire, Page[Subscriber], request)

    @offered
    async def update(
        self,
        subscriber_id: str,
        *,
        url: str | None = None,
        types: str | Sequence[str] | None = None,
        description: str | None = None,
        headers: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        rate_limit: float | Unset | None = UNSET,
        max_in_flight: int | None = None,
    ) -> Subscriber:
        """Change a subscriber: what is left out stays. `rate_limit=None` takes the limit away."""
        body = given(
            url=url,
            types=several(types),
            description=description,
            headers=headers,
            options=options,
            rate_limit=rate_limit,
            max_in_flight=max_in_flight,
        )
        if rate_limit is None:
            body["rate_limit"] = None
        request = Request("PATCH", path("subscribers", subscriber_id), json=body)
        return read(Subscriber, await self._wire.call(request))

    @offered
    async def delete(self, subscriber_id: str) -> None:
        """Delete a subscriber. What it was still owed is dead."""
        await self._wire.call(Request("DELETE", path("subscribers", subscriber_id)))

    @offered
    async def test(self, subscriber_id: str) -> TestEvent:
        """Send a subscriber an event of its own. `client.deliveries.list(event=...)` says whether it arrived."""
        return read(
            TestEvent,
            await self._wire.call(Request("POST", path("subscribers", subscriber_id, "test"))),
        )

    @offered
    async def pause(self, subscriber_id: str) -> Subscriber:
        """Hold a subscriber's deliveries back."""
        return read(
            Subscriber,
            await self._wire.call(Request("POST", path("subscribers", subscriber_id, "pause"))),
        )

    @offered
    async def resume(self, subscriber_id: str) -> Subscriber:
        """Let a subscriber's deliveries flow, those held back first. Also brings back a disabled one."""
        return read(
            Subscriber,
            await self._wire.call(Request("POST", path("subscribers", subscriber_id, "resume"))),
        )

    @offered
    async def rotate_secret(
        self, subscriber_id: str, *, grace_seconds: float | None = None
    ) -> RotatedSubscriber:
        """Give a subscriber a new secret, shown this once. The old one signs too for `grace_seconds` (a day)."""
        request = Request(
            "POST",
            path("subscribers", subscriber_id, "rotate-secret"),
            json=given(grace_seconds=grace_seconds),
        )
        return read(RotatedSubscriber, await self._wire.call(request))

    @offered
    async def replay(
        self,
        subscriber_id: str,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        status: str | None = None,
        types: str | Sequence[str] | None = None,
        missed: bool = False,
        rate: float | None = None,
    ) -> Replay:
        """Make deliveries to one subscriber due again; see `client.replays.create` for what the words mean."""
        body = wish(since=since, until=until, status=status, types=types, missed=missed, rate=rate)
        return read(
            Replay,
            await self._wire.call(
                Request("POST", path("subscribers", subscriber_id, "replay"), json=body)
            ),
        )
