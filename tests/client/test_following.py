"""Follower the log: by a script in virtual time, and a real service that restarts under its followers."""

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
from orchestrator.client.streams import EventStream
from orchestrator.client.sync_async import run_sync
from tests.harness.api_caller import KEY, until
from tests.harness.followers import serving
from tests.harness.live import listening
from tests.harness.scripted_client import Said, lost, said, script, scripted

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


def stream(*pieces: bytes | Exception) -> Said:
    return Said(200, HEADERS, [b"retry: 2000\nid: evt_0\n\n", *pieces])


def problem(status: int, **headers: str) -> Said:
    return said({"title": "No", "status": status, "code": "c", "detail": "d"}, status, **headers)


def following(connection: Connection, after: str | None = None, **callbacks: Any) -> Follower:
    return Follower(connection, None, after, Callbacks(**callbacks))


def places(connection: Connection) -> list[str | None]:
    """Return where each connection began."""
    return [request.headers.get("last-event-id") for request in script(connection).requests]


@pytest.mark.parametrize("end", [lost(), b""])
def test_it_comes_back_to_where_it_was_and_says_so(end: Exception | bytes) -> None:
    told: list[Reconnect] = []
    opened: list[None] = []
    connection = scripted(
        stream(event(1), event(2)[:30], end), lost(sent=False), problem(503), stream(event(2))
    )
    it = EventStream(
        following(connection, on_reconnect=told.append, on_open=lambda: opened.append(None))
    )
    assert [next(it).id, next(it).id] == ["evt_1", "evt_2"]
    assert places(connection) == [None, "evt_1", "evt_1", "evt_1"]
    assert [one.tries for one in told] == [1, 2, 3]
    assert told[0].error is (end if isinstance(end, Exception) else None)
    assert [one.delay for one in told] == script(connection).sleeps
    assert all(1 <= one.delay <= 3 for one in told), (
        "the server asked for two seconds, more or less"
    )
    assert (len(opened), it.cursor) == (2, "evt_2")


def test_the_cursor_is_where_the_caller_is_not_where_the_connection_is() -> None:
    connection = scripted(stream(event(1) + event(2) + event(3), lost()), stream(event(4)))
    it = EventStream(following(connection))
    assert following(connection).cursor is None
    seen = [(next(it).id, it.cursor) for _ in range(4)]
    assert seen == [(f"evt_{n}", f"evt_{n}") for n in range(1, 5)]
    assert places(connection) == [None, "evt_3"]


def test_ids_without_events_move_the_place() -> None:
    connection = scripted(stream(b"id: evt_5\n\n: still here\n\n", b""), stream(event(6)))
    assert next(EventStream(following(connection, after="evt_0"))).id == "evt_6"
    assert places(connection) == ["evt_0", "evt_5"]


def test_an_event_that_a_server_tells_again_is_told_once() -> None:
    connection = scripted(stream(event(1), event(2), b""), stream(event(1), event(2), event(3)))
    it = EventStream(following(connection))
    assert [next(it).id for _ in range(3)] == ["evt_1", "evt_2", "evt_3"]


GAP = b'event: stream.gap\ndata: {"type": "stream.gap", "resumes_after": "evt_7"}\nid: evt_7\n\n'


def test_a_gap_is_an_error_unless_somebody_listens_and_the_stream_goes_on_after_it() -> None:
    it = EventStream(following(scripted(Said(200, HEADERS, [GAP, event(8)])), after="evt_1"))
    with pytest.raises(errors.StreamGap, match="evt_7") as gap:
        next(it)
    assert (gap.value.resumes_after, it.cursor) == ("evt_7", "evt_7")
    assert next(it).id == "evt_8"


def test_whoever_listens_for_gaps_is_told() -> None:
    gaps: list[Gap] = []
    it = EventStream(
        following(scripted(Said(200, HEADERS, [GAP, event(8)])), after="evt_1", on_gap=gaps.append)
    )
    assert (next(it).id, gaps) == ("evt_8", [Gap("evt_7")])


@pytest.mark.parametrize("status", [401, 403, 404, 410, 422])
@pytest.mark.parametrize("connected_before", [False, True])
def test_a_refusal_ends_it(status: int, connected_before: bool) -> None:
    first = [stream(event(1), lost())] if connected_before else []
    it = EventStream(following(scripted(*first, problem(status))))
    if connected_before:
        next(it)
    with pytest.raises(errors.ApiError) as refused:
        next(it)
    assert refused.value.status == status


def test_the_first_connection_is_tried_like_any_call_and_later_ones_for_ever() -> None:
    connection = scripted(lost(sent=False))
    with pytest.raises(errors.Unreachable):
        next(EventStream(following(connection)))
    assert len(script(connection).requests) == 3
    connection = scripted(stream(event(1), lost()), *[lost(sent=False)] * 50, stream(event(2)))
    it = EventStream(following(connection))
    assert [next(it).id, next(it).id] == ["evt_1", "evt_2"]
    assert max(script(connection).sleeps) <= 8


def test_a_server_that_asks_for_time_is_given_it() -> None:
    connection = scripted(stream(event(1), b""), problem(429, retry_after="30"), stream(event(2)))
    it = EventStream(following(connection))
    assert [next(it).id, next(it).id] == ["evt_1", "evt_2"]
    assert script(connection).sleeps[1] >= 30


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Said(200, {"content-type": "text/html"}, [b"<html>"]), "not JSON"),
        (said({}), "not with a stream"),
        (stream(b"data: {}\n\n"), "no event"),
        (stream(b"event: stream.gap\ndata: []\n\n"), "without its"),
        (stream(b"data: " + b"x" * (9 << 20)), "longer than"),
    ],
)
def test_what_is_no_stream_of_ours_is_said_to_be_none(answer: Said, why: str) -> None:
    with pytest.raises(errors.NotOurs, match=why):
        next(EventStream(following(scripted(answer))))


def test_it_ends_when_it_is_closed() -> None:
    with EventStream(following(scripted(stream(event(1), event(2))))) as it:
        assert next(it).id == "evt_1"
    assert (list(it), it.cursor) == ([], "evt_1")


def test_who_blocks_cannot_be_given_something_to_await() -> None:
    async def later(gap: Gap) -> None:
        await asyncio.sleep(0)

    it = following(scripted(Said(200, HEADERS, [GAP])), after="evt_1", on_gap=later)
    with pytest.raises(RuntimeError, match="AsyncClient"):
        run_sync(it.next())


def test_a_stream_is_open_once_its_place_is_known() -> None:
    """What happens after `on_open` is told is never missed."""
    placed: list[list[str | None]] = []
    connection = scripted(Said(200, HEADERS, [b"retry: 1\nid: e", b"vt_3\n\n", event(4)]))
    it = EventStream(following(connection, on_open=lambda: placed.append(places(connection))))
    assert (next(it).id, placed) == ("evt_4", [[None]])
    with pytest.raises(errors.Unreachable):
        next(EventStream(following(scripted(Said(200, HEADERS, [b"retry: 1\nid: e", lost()])))))


def test_an_error_of_the_callers_own_functions_is_theirs() -> None:
    def fail(*_: object) -> None:
        raise errors.ClientError("mine")

    it = EventStream(following(scripted(stream(event(1), b""), stream()), on_reconnect=fail))
    assert next(it).id == "evt_1"
    with pytest.raises(errors.ClientError, match="mine"):
        next(it)
    with pytest.raises(errors.ClientError, match="mine"):
        next(EventStream(following(scripted(stream()), on_open=fail)))


async def test_silence_is_a_lost_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as it, AsyncClient(it.url, KEY) as client:
        told = asyncio.Queue[Reconnect]()
        follows = Follower(
            client._connection, None, None, Callbacks(on_reconnect=told.put), idle_timeout=0.1
        )
        hearing = asyncio.create_task(follows.next())
        assert isinstance((await told.get()).error, errors.Unreachable)
        (one,) = await it.say({"n": 1})
        found = await hearing
        assert found is not None
        assert found.id == one
        await follows.close()


async def test_nothing_is_lost_or_told_twice_over_the_end_of_a_service(tmp_path: Path) -> None:
    """With both faces at once; one that is cut off in the middle goes on elsewhere with its cursor."""
    with listening() as sock:
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    heard: dict[str, list[str]] = {"blocking": [], "awaited": []}
    blocking = Client(url, KEY)
    awaited = AsyncClient(url, KEY)
    opened: list[str] = []

    def block() -> None:
        with (
            blocking,
            blocking.events.stream(types="job.*", on_open=lambda: opened.append("b")) as events,
        ):
            for one in events:
                heard["blocking"].append(one.id)
                if one.data == {"n": "last"}:
                    return

    async def await_them(after: str | None, count: int) -> str | None:
        async with awaited.events.stream(
            types=["job.*"], after=after, on_open=lambda: opened.append("a")
        ) as events:
            async for one in events:
                heard["awaited"].append(one.id)
                if len(heard["awaited"]) == count or one.data == {"n": "last"}:
                    return events.cursor
        return None

    said: list[str] = []
    async with serving(tmp_path, listening(port)) as it:
        tasks = (
            asyncio.create_task(asyncio.to_thread(block)),
            asyncio.create_task(await_them(None, 15)),
        )
        await until(lambda: len(opened) == 2)
        said += await it.count(0, 10)
        await until(lambda: heard["blocking"] == heard["awaited"] == said)
    async with serving(tmp_path, listening(port)) as it:
        said += await it.count(10, 20)
        said += await it.say({"n": "last"})
        await awaited.events.poll(wait=0)
        assert await await_them(await tasks[1], 100) == said[-1]
        await tasks[0]
    await awaited.close()
    assert heard == {"blocking": said, "awaited": said}
