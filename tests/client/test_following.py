"""Following the log: scripted in virtual time, and with a real service that restarts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import AsyncClient, Client, errors
from orchestrator.client.callbacks import Callbacks, Gap, Reconnect
from orchestrator.client.connection import Connection
from orchestrator.client.following import Follower
from orchestrator.client.requests import Request
from orchestrator.client.streams import EventStream
from orchestrator.client.sync_async import run_sync
from tests.harness.api_caller import KEY, until
from tests.harness.followers import serving
from tests.harness.live import listening
from tests.harness.scripted_client import Response, json_response, lost, script, scripted

HEADERS = {"content-type": "text/event-stream; charset=utf-8"}


def event(n: int) -> bytes:
    body = {
        "type": "job.failed",
        "timestamp": "2026-11-20T10:00:00Z",
        "id": f"evt_{n}",
        "sequence": 1,
        "data": {"n": n},
    }
    return f"id: evt_{n}\nevent: job.failed\ndata: {json.dumps(body)}\n\n".encode()


def stream(*chunks: bytes | Exception) -> Response:
    return Response(200, HEADERS, [b"retry: 2000\nid: evt_0\n\n", *chunks])


def problem(status: int, **headers: str) -> Response:
    return json_response(
        {"title": "No", "status": status, "code": "c", "detail": "d"}, status, **headers
    )


def following(connection: Connection, after: str | None = None, **callbacks: Any) -> Follower:
    return Follower(connection, None, after, Callbacks(**callbacks))


def cursors(connection: Connection) -> list[str | None]:
    """Return the cursor at which each connection started."""
    return [request.headers.get("last-event-id") for request in script(connection).requests]


@pytest.mark.parametrize("end", [lost(), b""])
def test_it_reconnects_at_its_cursor_and_reports_that(end: Exception | bytes) -> None:
    reconnects: list[Reconnect] = []
    opened: list[None] = []
    connection = scripted(
        stream(event(1), event(2)[:30], end), lost(sent=False), problem(503), stream(event(2))
    )
    events = EventStream(
        following(connection, on_reconnect=reconnects.append, on_open=lambda: opened.append(None))
    )
    assert [next(events).id, next(events).id] == ["evt_1", "evt_2"]
    assert cursors(connection) == [None, "evt_1", "evt_1", "evt_1"]
    assert [reconnect.tries for reconnect in reconnects] == [1, 2, 3]
    assert reconnects[0].error is (end if isinstance(end, Exception) else None)
    assert [reconnect.delay for reconnect in reconnects] == script(connection).sleeps
    assert all(1 <= reconnect.delay <= 3 for reconnect in reconnects), (
        "the server asked for two seconds, more or less"
    )
    assert (len(opened), events.cursor) == (2, "evt_2")


def test_the_cursor_moves_as_events_are_returned_not_as_they_arrive() -> None:
    connection = scripted(stream(event(1) + event(2) + event(3), lost()), stream(event(4)))
    events = EventStream(following(connection))
    assert following(connection).cursor is None
    seen = [(next(events).id, events.cursor) for _ in range(4)]
    assert seen == [(f"evt_{n}", f"evt_{n}") for n in range(1, 5)]
    assert cursors(connection) == [None, "evt_3"]


def test_ids_without_events_move_the_cursor() -> None:
    connection = scripted(stream(b"id: evt_5\n\n: heartbeat\n\n", b""), stream(event(6)))
    assert next(EventStream(following(connection, after="evt_0"))).id == "evt_6"
    assert cursors(connection) == ["evt_0", "evt_5"]


def test_a_repeated_event_is_returned_once() -> None:
    connection = scripted(stream(event(1), event(2), b""), stream(event(1), event(2), event(3)))
    events = EventStream(following(connection))
    assert [next(events).id for _ in range(3)] == ["evt_1", "evt_2", "evt_3"]


GAP = b'event: stream.gap\ndata: {"type": "stream.gap", "resumes_after": "evt_7"}\nid: evt_7\n\n'


def test_a_gap_without_a_callback_is_an_error_and_the_stream_goes_on_after_it() -> None:
    events = EventStream(
        following(scripted(Response(200, HEADERS, [GAP, event(8)])), after="evt_1")
    )
    with pytest.raises(errors.StreamGap, match="evt_7") as gap:
        next(events)
    assert (gap.value.resumes_after, events.cursor) == ("evt_7", "evt_7")
    assert next(events).id == "evt_8"


def test_a_gap_calls_the_callback() -> None:
    gaps: list[Gap] = []
    events = EventStream(
        following(
            scripted(Response(200, HEADERS, [GAP, event(8)])), after="evt_1", on_gap=gaps.append
        )
    )
    assert (next(events).id, gaps) == ("evt_8", [Gap("evt_7")])


@pytest.mark.parametrize("status", [401, 403, 404, 410, 422])
@pytest.mark.parametrize("connected_before", [False, True])
def test_a_permanent_error_ends_the_stream(status: int, connected_before: bool) -> None:
    first = [stream(event(1), lost())] if connected_before else []
    events = EventStream(following(scripted(*first, problem(status))))
    if connected_before:
        next(events)
    with pytest.raises(errors.ApiError) as refused:
        next(events)
    assert refused.value.status == status


def test_the_first_connection_is_retried_like_a_call_and_later_connections_without_end() -> None:
    connection = scripted(lost(sent=False))
    with pytest.raises(errors.Unreachable):
        next(EventStream(following(connection)))
    assert len(script(connection).requests) == 3
    connection = scripted(stream(event(1), lost()), *[lost(sent=False)] * 50, stream(event(2)))
    events = EventStream(following(connection))
    assert [next(events).id, next(events).id] == ["evt_1", "evt_2"]
    assert max(script(connection).sleeps) <= 8


def test_retry_after_delays_the_reconnect() -> None:
    connection = scripted(stream(event(1), b""), problem(429, retry_after="30"), stream(event(2)))
    events = EventStream(following(connection))
    assert [next(events).id, next(events).id] == ["evt_1", "evt_2"]
    assert script(connection).sleeps[1] >= 30


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(200, {"content-type": "text/html"}, [b"<html>"]), "not JSON"),
        (json_response({}), "not with a stream"),
        (stream(b"data: {}\n\n"), "no event"),
        (stream(b"event: stream.gap\ndata: []\n\n"), "without its"),
        (stream(b"data: " + b"x" * (9 << 20)), "longer than"),
    ],
)
def test_a_response_that_is_not_an_event_stream_is_an_error(
    response: Response, reason: str
) -> None:
    with pytest.raises(errors.NotOurs, match=reason):
        next(EventStream(following(scripted(response))))


def test_close_ends_the_iteration() -> None:
    with EventStream(following(scripted(stream(event(1), event(2))))) as events:
        assert next(events).id == "evt_1"
    assert (list(events), events.cursor) == ([], "evt_1")


def test_a_stream_that_is_closed_while_it_connects_releases_the_connection() -> None:
    def respond(request: Request) -> Response:
        events.close()  # as another thread may
        return stream(event(1))

    connection = scripted(respond)
    events = EventStream(following(connection))
    assert list(events) == []
    assert [response.is_closed for response in script(connection).opened] == [True]


def test_the_sync_client_refuses_an_async_callback() -> None:
    async def later(gap: Gap) -> None:
        await asyncio.sleep(0)

    events = following(scripted(Response(200, HEADERS, [GAP])), after="evt_1", on_gap=later)
    with pytest.raises(RuntimeError, match="AsyncClient"):
        run_sync(events.next())


def test_a_stream_is_open_once_its_cursor_is_known() -> None:
    """No event after the call of `on_open` is missed."""
    opened: list[list[str | None]] = []
    connection = scripted(Response(200, HEADERS, [b"retry: 1\nid: e", b"vt_3\n\n", event(4)]))
    events = EventStream(following(connection, on_open=lambda: opened.append(cursors(connection))))
    assert (next(events).id, opened) == ("evt_4", [[None]])
    with pytest.raises(errors.Unreachable):
        next(EventStream(following(scripted(Response(200, HEADERS, [b"retry: 1\nid: e", lost()])))))


def test_an_error_in_a_callback_is_raised_to_the_caller() -> None:
    def fail(*_: object) -> None:
        raise errors.ClientError("mine")

    events = EventStream(following(scripted(stream(event(1), b""), stream()), on_reconnect=fail))
    assert next(events).id == "evt_1"
    with pytest.raises(errors.ClientError, match="mine"):
        next(events)
    with pytest.raises(errors.ClientError, match="mine"):
        next(EventStream(following(scripted(stream()), on_open=fail)))


async def test_an_idle_connection_is_reopened(tmp_path: Path) -> None:
    async with serving(tmp_path) as service, AsyncClient(service.url, KEY) as client:
        reconnects = asyncio.Queue[Reconnect]()
        follower = Follower(
            client._connection, None, None, Callbacks(on_reconnect=reconnects.put), idle_timeout=0.1
        )
        pending = asyncio.create_task(follower.next())
        assert isinstance((await reconnects.get()).error, errors.Unreachable)
        (event_id,) = await service.say({"n": 1})
        found = await pending
        assert found is not None
        assert found.id == event_id
        await follower.close()


async def test_no_event_is_lost_or_repeated_over_a_restart_of_the_service(tmp_path: Path) -> None:
    """With both clients at once; the async stream stops midway and resumes at its cursor."""
    with listening() as sock:
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    received: dict[str, list[str]] = {"sync": [], "async": []}
    sync_client = Client(url, KEY)
    async_client = AsyncClient(url, KEY)
    opened: list[str] = []

    def follow_sync() -> None:
        with (
            sync_client,
            sync_client.events.stream(types="job.*", on_open=lambda: opened.append("b")) as events,
        ):
            for event in events:
                received["sync"].append(event.id)
                if event.data == {"n": "last"}:
                    return

    async def follow_async(after: str | None, count: int) -> str | None:
        async with async_client.events.stream(
            types=["job.*"], after=after, on_open=lambda: opened.append("a")
        ) as events:
            async for event in events:
                received["async"].append(event.id)
                if len(received["async"]) == count or event.data == {"n": "last"}:
                    return events.cursor
        return None

    sent: list[str] = []
    async with serving(tmp_path, listening(port)) as service:
        tasks = (
            asyncio.create_task(asyncio.to_thread(follow_sync)),
            asyncio.create_task(follow_async(None, 15)),
        )
        await until(lambda: len(opened) == 2)
        sent += await service.count(0, 10)
        await until(lambda: received["sync"] == received["async"] == sent)
    async with serving(tmp_path, listening(port)) as service:
        sent += await service.count(10, 20)
        sent += await service.say({"n": "last"})
        await async_client.events.poll(wait=0)
        assert await follow_async(await tasks[1], 100) == sent[-1]
        await tasks[0]
    await async_client.close()
    assert received == {"sync": sent, "async": sent}
