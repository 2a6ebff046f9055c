"""`client.subscribers`: the receivers of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.replays import SubscriberReplayFilter, replay_body
from orchestrator.client.requests import (
    UNSET,
    Request,
    Unset,
    declared,
    get,
    idempotency_header,
    json_fields,
    path,
    post,
    split_list,
)
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import (
    ChangedSubscriber,
    Explanation,
    NewSubscriber,
    Page,
    Replay,
    RotatedSubscriber,
    Subscriber,
    TestEvent,
)


class SubscriberOptions(TypedDict, total=False):
    """Optional fields of a subscriber."""

    types: str | Sequence[str] | None
    description: str | None
    headers: Mapping[str, str] | None
    options: Mapping[str, str] | None
    credentials: Mapping[str, str] | None
    max_in_flight: int | None
    ordered: bool | None


class Subscribers(Resource[ModeT]):
    """Subscribers: created, updated, paused, tested."""

    @dual
    async def create(
        self,
        url: str,
        *,
        kind: str | None = None,
        rate_limit: float | None = None,
        filter: Mapping[str, object] | None = None,
        retry: Mapping[str, object] | None = None,
        **options: Unpack[SubscriberOptions],
    ) -> NewSubscriber:
        """Return a new subscriber; only this response has `secret`.

        Without `kind` the server infers it from the address; `client.destinations.list()` has the
        kinds, their options and their credentials, which are never shown again. Without `types` it
        receives the events of final jobs. `retry` has what it needs of its own of a retry policy:
        `{"schedule": ["5s", "1m"], "deadline": 10, "final_statuses": [400, 404]}`.

        >>> made = client.subscribers.create("https://my.app/hook", types=["job.*"])
        >>> webhook = Webhook(made.secret)
        """
        fields = {"rate_limit": rate_limit, "filter": filter, "retry": retry}
        body = _body(options, kind=kind, url=url, **fields)
        return await self._call(NewSubscriber, post("subscribers", json=body))

    @dual
    async def get(self, subscriber_id: str, *, backlog: bool | None = None) -> Subscriber:
        """Return a subscriber; with `backlog` it has the counts of what it is owed."""
        request = get("subscribers", subscriber_id, backlog=backlog)
        return await self._call(Subscriber, request)

    @dual_list
    def list(
        self,
        *,
        callbacks: bool | None = None,
        failing: bool | None = None,
        backlog: bool | None = None,
        page_size: int = 100,
    ) -> AsyncPages[Subscriber]:
        """Return all subscribers, newest first; with `failing` those that fail now.

        `callbacks` selects the hosts of jobs' callback URLs instead. With `backlog` each has the
        counts of what it is owed.
        """
        chosen = {"callbacks": callbacks, "failing": failing, "backlog": backlog}
        request = get("subscribers", **chosen, limit=page_size)
        return AsyncPages(self._connection, Page[Subscriber], request)

    @dual
    async def update(
        self,
        subscriber_id: str,
        *,
        url: str | None = None,
        rate_limit: float | Unset | None = UNSET,
        filter: Mapping[str, object] | Unset | None = UNSET,
        retry: Mapping[str, object] | Unset | None = UNSET,
        **options: Unpack[SubscriberOptions],
    ) -> ChangedSubscriber:
        """Update a subscriber: fields left out stay.

        `rate_limit=None` removes the limit, `filter=None` the filter, and `retry=None` its own
        retry policy.

        `headers`, `options`, `credentials` and `retry` are replaced whole. A `url` with another
        origin drops the stored headers and credentials unless new ones are given; the result's
        `dropped` says so.
        """
        cleared = {"rate_limit": rate_limit, "filter": filter, "retry": retry}
        body = _body(options, url=url, **cleared)
        body |= {name: None for name, value in cleared.items() if value is None}
        request = Request("PATCH", path("subscribers", subscriber_id), json=body)
        return await self._call(ChangedSubscriber, request)

    @dual
    async def delete(self, subscriber_id: str) -> None:
        """Delete a subscriber. Its open deliveries become dead."""
        await self._connection.call(Request("DELETE", path("subscribers", subscriber_id)))

    @dual
    async def test(self, subscriber_id: str) -> TestEvent:
        """Send a subscriber a test event. `client.deliveries.list(event=...)` has its delivery."""
        return await self._call(TestEvent, post("subscribers", subscriber_id, "test"))

    @dual
    async def explain(
        self,
        subscriber_id: str,
        *,
        event: str | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Explanation:
        """Return whether a subscriber receives an event, or an event with this body, and why."""
        question = json_fields(event=event, body=body)
        request = post("subscribers", subscriber_id, "explain", json=question)
        return await self._call(Explanation, request)

    @dual
    async def pause(self, subscriber_id: str) -> Subscriber:
        """Hold a subscriber's deliveries."""
        return await self._call(Subscriber, post("subscribers", subscriber_id, "pause"))

    @dual
    async def resume(self, subscriber_id: str) -> Subscriber:
        """Resume a paused or disabled subscriber. Held deliveries are sent first."""
        return await self._call(Subscriber, post("subscribers", subscriber_id, "resume"))

    @dual
    async def rotate_secret(
        self, subscriber_id: str, *, grace_seconds: float | None = None
    ) -> RotatedSubscriber:
        """Give a subscriber a new secret; only this response has it.

        Deliveries are signed with the old secret too for `grace_seconds`, by default a day.
        """
        body = json_fields(grace_seconds=grace_seconds)
        request = post("subscribers", subscriber_id, "rotate-secret", json=body)
        return await self._call(RotatedSubscriber, request)

    @dual
    async def replay(
        self,
        subscriber_id: str,
        *,
        rate: float | None = None,
        idempotency_key: str | None = None,
        **which: Unpack[SubscriberReplayFilter],
    ) -> Replay:
        """Make deliveries to one subscriber due again; parameters as of `client.replays.create`."""
        body = replay_body(which, SubscriberReplayFilter, rate)
        headers = idempotency_header(idempotency_key)
        request = post("subscribers", subscriber_id, "replay", json=body, headers=headers)
        return await self._call(Replay, request)


def _body(options: SubscriberOptions, **fields: object) -> dict[str, object]:
    types = split_list(options.get("types"))
    return json_fields(**fields, **declared(options, SubscriberOptions) | {"types": types})
