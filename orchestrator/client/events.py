"""`client.events` and `client.deliveries`: the event log, and the deliveries of its events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.client.callbacks import Callbacks, Gap, Reconnect
from orchestrator.client.following import Follower
from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.requests import get, json_fields, post, split_list
from orchestrator.client.streams import dual_stream
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import Delivery, EventReplay, LoggedEvent, Page, TriedDelivery


class Events(Resource[ModeT]):
    """The durable event log."""

    @dual
    async def get(self, event_id: str) -> LoggedEvent:
        """Return an event."""
        return await self._call(LoggedEvent, get("events", event_id))

    @dual_list
    def list(
        self,
        *,
        types: str | Sequence[str] | None = None,
        job: str | None = None,
        page_size: int = 100,
    ) -> AsyncPages[LoggedEvent]:
        """Return all matching events, newest first. `types` are event types; `*` is a wildcard.

        >>> [event.type for event in client.events.list(types="job.*", job="job_01...")]
        [<EventType.JOB_SUCCEEDED: 'job.succeeded'>]
        """
        request = get("events", type=types, job=job, limit=page_size)
        return AsyncPages(self._connection, Page[LoggedEvent], request)

    @dual
    async def poll(
        self,
        *,
        after: str | None = None,
        types: str | Sequence[str] | None = None,
        job: str | None = None,
        wait: int = 30,
        limit: int = 50,
    ) -> Page[LoggedEvent]:
        """Long poll: return events after a cursor, oldest first, at once or within `wait` seconds.

        `next_cursor` is always where to resume; without `after` it starts now. Raises `Gone` if
        events after the cursor may be deleted. For callers that cannot hold a stream open.
        """
        request = get("events", wait=wait, after=after, type=types, job=job, limit=limit)
        return await self._call(Page[LoggedEvent], request)

    @dual_stream
    def stream(
        self,
        *,
        types: str | Sequence[str] | None = None,
        after: str | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        on_reconnect: Callable[[Reconnect], object] | None = None,
        on_open: Callable[[], object] | None = None,
    ) -> Follower:
        """Return events as they happen, after the event with the id `after`, else from now on.

        The stream reconnects whenever the connection is lost, and neither loses nor repeats an
        event. It ends only with an error: `ApiError` if the server refuses, `Unreachable` if the
        first connection fails, and `StreamGap` if events may have been deleted before they were
        sent. With `on_gap` a gap calls that instead, and the stream goes on. `on_reconnect` is
        called for each lost connection, `on_open` for each new connection.

        >>> with client.events.stream(types=["job.succeeded", "job.failed"]) as stream:
        ...     for event in stream:
        ...         print(event.job.id, event.job.status)
        """
        callbacks = Callbacks(on_gap, on_reconnect, on_open)
        return Follower(self._connection, split_list(types), after, callbacks)

    @dual
    async def replay(self, event_id: str, *, subscriber: str | None = None) -> EventReplay:
        """Redeliver an event: to one subscriber, else to all it was due to and all added since."""
        request = post("events", event_id, "replay", json=json_fields(subscriber=subscriber))
        return await self._call(EventReplay, request)


class Deliveries(Resource[ModeT]):
    """Deliveries of events to subscribers."""

    @dual
    async def get(self, delivery_id: str) -> TriedDelivery:
        """Return a delivery with all its attempts."""
        return await self._call(TriedDelivery, get("deliveries", delivery_id))

    @dual_list
    def list(
        self,
        *,
        status: str | None = None,
        subscriber: str | None = None,
        event: str | None = None,
        page_size: int = 100,
    ) -> AsyncPages[Delivery]:
        """Return all matching deliveries, newest first.

        >>> for delivery in client.deliveries.list(status="dead"):
        ...     client.deliveries.retry(delivery.id)
        """
        request = get(
            "deliveries", status=status, subscriber=subscriber, event=event, limit=page_size
        )
        return AsyncPages(self._connection, Page[Delivery], request)

    @dual
    async def retry(self, delivery_id: str) -> TriedDelivery:
        """Attempt a delivery now, whatever its status, and although its subscriber rests.

        Then its schedule goes on.
        """
        return await self._call(TriedDelivery, post("deliveries", delivery_id, "retry"))
