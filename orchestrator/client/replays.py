"""`client.replays`: deliveries made due again, and jobs retried, in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, Unpack

from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.requests import (
    declared,
    get,
    idempotency_header,
    json_fields,
    post,
    split_list,
)
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import Page, Replay, ReplayCount


class SubscriberReplayFilter(TypedDict, total=False):
    """Which deliveries of a subscriber are replayed; see `Replays.create`."""

    since: datetime | str | None
    until: datetime | str | None
    status: str | None
    types: str | Sequence[str] | None
    missed: bool


class ReplayFilter(SubscriberReplayFilter, total=False):
    """Which deliveries are replayed: of one subscriber or all, of one event or all."""

    subscriber: str | None
    event: str | None


class RetryFilter(TypedDict, total=False):
    """Which jobs are retried, as in `Jobs.list`; see `Replays.retry_jobs`."""

    status: str | Sequence[str] | None
    account: str | None
    model: str | None
    external_task_id: str | None
    vendor_task_id: str | None
    resolved_by: str | None
    fairness_key: str | None
    error: str | None
    metadata: str | None
    created_after: datetime | str | None
    again: bool


def _retry_body(options: RetryFilter) -> dict[str, object]:
    """Return the body of a replay of jobs. Raises `TypeError` for an undeclared option."""
    status, again = split_list(options.get("status")), options.get("again") or None
    chosen = declared(options, RetryFilter) | {"status": status, "again": again}
    return {"jobs": json_fields(**chosen)}


def replay_body(
    options: SubscriberReplayFilter, fields: type, rate: float | None = None
) -> dict[str, object]:
    """Return the body of a replay request. Raises `TypeError` for an undeclared option."""
    types, missed = split_list(options.get("types")), options.get("missed") or None
    return json_fields(
        **declared(options, fields) | {"types": types, "missed": missed, "rate": rate}
    )


class Replays(Resource[ModeT]):
    """Replays: started, counted beforehand, followed, canceled."""

    @dual
    async def create(
        self,
        *,
        rate: float | None = None,
        idempotency_key: str | None = None,
        **which: Unpack[ReplayFilter],
    ) -> Replay:
        """Make deliveries due again: of one `subscriber` or all, of one `event` or all.

        `since` and `until` limit when they began: [since, until). `status` is the state they are
        in, by default `dead`. `types` are event types. With `missed` it is instead about events
        that match the subscriber's types and have no delivery to it. `rate` is in deliveries per
        second. The same `idempotency_key` begins no second replay.

        >>> client.replays.create(subscriber="sub_01...", since="2026-11-20T00:00:00Z").count
        12
        """
        body, headers = replay_body(which, ReplayFilter, rate), idempotency_header(idempotency_key)
        return await self._call(Replay, post("replays", json=body, headers=headers))

    @dual
    async def count(self, **which: Unpack[ReplayFilter]) -> ReplayCount:
        """Return how many deliveries `create` would make due, without changing anything."""
        body = {**replay_body(which, ReplayFilter), "dry_run": True}
        return await self._call(ReplayCount, post("replays", json=body))

    @dual
    async def retry_jobs(
        self,
        *,
        rate: float | None = None,
        idempotency_key: str | None = None,
        **which: Unpack[RetryFilter],
    ) -> Replay:
        """Retry all jobs that match, by default failed ones: each is a render to pay for.

        `status` may be failed, expired and canceled. Of a chain of retries only the newest is
        retried, and, unless `again`, only if none of them is live or has succeeded. `rate` is in
        jobs per second, by default 10. The same `idempotency_key` begins no second replay.

        >>> client.replays.retry_jobs(account="main", error="vendor_unavailable").count
        12
        """
        body = _retry_body(which) | json_fields(rate=rate)
        headers = idempotency_header(idempotency_key)
        return await self._call(Replay, post("replays", json=body, headers=headers))

    @dual
    async def count_retries(self, **which: Unpack[RetryFilter]) -> ReplayCount:
        """Return how many jobs `retry_jobs` would retry, with a sample; nothing is changed."""
        body = {**_retry_body(which), "dry_run": True}
        return await self._call(ReplayCount, post("replays", json=body))

    @dual
    async def get(self, replay_id: str) -> Replay:
        """Return a replay and its progress."""
        return await self._call(Replay, get("replays", replay_id))

    @dual_list
    def list(self, *, status: str | None = None, page_size: int = 100) -> AsyncPages[Replay]:
        """Return replays, newest first."""
        request = get("replays", status=status, limit=page_size)
        return AsyncPages(self._connection, Page[Replay], request)

    @dual
    async def cancel(self, replay_id: str) -> Replay:
        """Stop a replay; what is due or retried goes on. Raises `Conflict` if it is over."""
        return await self._call(Replay, post("replays", replay_id, "cancel"))
