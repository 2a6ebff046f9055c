"""`client.events` and `client.deliveries`: what happened, and who was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.client.callbacks import Callbacks, Gap, Reconnect
from orchestrator.client.following import Following
from orchestrator.client.pages import Listing, listed
from orchestrator.client.requests import Request, given, path, several
from orchestrator.client.responses import read
from orchestrator.client.streams import streamed
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import Delivery, EventReplay, LoggedEvent, Page, TriedDelivery


class Events(Resource[FaceT]):
    """The durable log of what happened."""

    @offered
    async def get(self, event_id: str) -> LoggedEvent:
        """Return an event."""
        return read(LoggedEvent, await self._wire.call(Request("GET", path("events", event_id))))

    @listed
    def list(
        self,
        *,
        types: str | Sequence[str] | None = None,
        job: str | None = None,
        page_size: int = 100,
    ) -> Listing[LoggedEvent]:
        """Return events, newest first, all that match. `types` are event types; `*` matches.

        >>> [event.type for event in client.events.list(types="job.*", job="job_01...")]
        [<EventType.JOB_SUCCEEDED: 'job.succeeded'>]
        """
        query = {"type": types, "job": job, "limit": page_size}
        return Listing(self._wire, Page[LoggedEvent], Request("GET", path("events"), query=query))

    @offered
    async def poll(
        self,
        *,
        after: str | None = None,
        types: str | Sequence[str] | None = None,
        job: str | None = None,
        wait: int = 30,
        limit: int = 50,
    ) -> Page[LoggedEvent]:
        """Return what came after a cursor, oldest first, as soon as there is any, and at the latest after `wait` s.

        `next_cursor` is where to go on, always; without `after` it begins now. Raises `Gone` if events after the
        cursor may be deleted. For who cannot hold a stream open.
        """
        query = {"wait": wait, "after": after, "type": types, "job": job, "limit": limit}
        return read(
            Page[LoggedEvent], await self._wire.call(Request("GET", path("events"), query=query))
        )

    @streamed
    def stream(
        self,
        *,
        types: str | Sequence[str] | None = None,
        after: str | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        on_reconnect: Callable[[Reconnect], object] | None = None,
        on_open: Callable[[], object] | None = None,
    ) -> Following:
        """Return events as they happen, after the event with the id `after`, else from now on.

        The stream makes its connection again whenever that is lost, and neither loses an event nor tells one twice.
        It ends only with an error: `ApiError` if the server refuses, `Unreachable` if the first connection cannot be
        made, and `StreamGap` if events may have been deleted before they could be told; with `on_gap` that is told
        instead, and the stream goes on. `on_reconnect` hears of lost connections, `on_open` of every one made.

        >>> with client.events.stream(types=["job.succeeded", "job.failed"]) as stream:
        ...     for event in stream:
        ...         print(event.job.id, event.job.status)
        """
        return Following(
            self._wire, several(types), after, Callbacks(on_gap, on_reconnect, on_open)
        )

    @offered
    async def replay(self, event_id: str, *, subscriber: str | None = None) -> EventReplay:
        """Deliver an event again: to one subscriber, else to all who were owed it and all who joined since."""
        request = Request(
            "POST", path("events", event_id, "replay"), json=given(subscriber=subscriber)
        )
        return read(EventReplay, await self._wire.call(request))


class Deliveries(Resource[FaceT]):
    """What is owed to whom."""

    @offered
    async def get(self, delivery_id: str) -> TriedDelivery:
        """Return a delivery, with every attempt at it."""
        return read(
            TriedDelivery, await self._wire.call(Request("GET", path("deliveries", delivery_id)))
        )

    @listed
    def list(
        self,
        *,
        status: str | None = None,
        subscriber: str | None = None,
        event: str | None = None,
        page_size: int = 100,
    ) -> Listing[Delivery]:
        """Return deliveries, newest first, all that match: of one status, to one subscriber, of one event.

        >>> for delivery in client.deliveries.list(status="dead"):
        ...     client.deliveries.retry(delivery.id)
        """
        query = {"status": status, "subscriber": subscriber, "event": event, "limit": page_size}
        return Listing(self._wire, Page[Delivery], Request("GET", path("deliveries"), query=query))

    @offered
    async def retry(self, delivery_id: str) -> TriedDelivery:
        """Attempt a delivery now, whatever its status; its schedule goes on after that."""
        return read(
            TriedDelivery,
            await self._wire.call(Request("POST", path("deliveries", delivery_id, "retry"))),
        )
