"""The event stream over sockets: each event arrives once, whatever ends a connection."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.api import sending, stream
from orchestrator.api.auth.api_keys import digest
from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.events import log
from orchestrator.events.log import Watermark
from orchestrator.foundation.admission import Admission, Limit
from orchestrator.foundation.states import EventType
from tests.events.test_log import an_id, insert
from tests.harness import databases
from tests.harness.api_caller import KEY, eventually, until
from tests.harness.followers import KEYED, Follower, Service, serving
from tests.harness.live import listening

pytestmark = pytest.mark.long

BIG = {"x": "x" * 50_000}


async def test_a_client_receives_the_bytes_that_subscribers_do(
    tmp_path: Path, everywhere: None
) -> None:
    async with serving(tmp_path) as it, Follower(it.url).following() as client, it.caller() as http:
        (first,) = await it.say({"n": 1})
        await client.hears(first)
        shown = (await http.get(f"/v1/events/{first}")).json()
        row = await it.runtime.store.read(
            lambda tx: tx.execute(sa.select(event.c.body)).scalar_one()
        )
        assert f"data: {row.decode()}" in client.lines, "byte for byte"
        assert client.lines[0] == "retry: 2000"
        ((kind, event_id, data),) = client.events
        assert (kind, event_id) == ("job.succeeded", first)
        assert data == {
            name: shown[name] for name in ("type", "timestamp", "id", "sequence", "data")
        }


@pytest.mark.parametrize("header", [True, False])
async def test_a_reconnected_client_receives_each_event_once(
    tmp_path: Path, everywhere: None, header: bool
) -> None:
    """Also after a restart, and with its last id in the header or in the query."""
    with listening() as sock:
        port = sock.getsockname()[1]
    client, ids = Follower(f"http://127.0.0.1:{port}", header=header), list[str]()
    async with serving(tmp_path, listening(port)) as it:
        async with client.following():
            ids += await it.count(0, 10)
            await client.hears(*ids)
        ids += await it.count(10, 20)
        async with client.following():
            await client.hears(*ids)
        ids += await it.count(20, 30)
    async with serving(tmp_path, listening(port)) as it:
        ids += await it.count(30, 40)
        async with client.following():
            ids += await it.count(40, 50)
            await client.hears(*ids)
    assert (client.ids, client.gaps) == (ids, 0)


async def test_clients_reconnect_after_a_restart(tmp_path: Path, everywhere: None) -> None:
    """Also before the first event."""
    with listening() as sock:
        port = sock.getsockname()[1]
    client = Follower(f"http://127.0.0.1:{port}")
    async with contextlib.AsyncExitStack() as stack:
        async with serving(tmp_path, listening(port)) as it:
            await stack.enter_async_context(client.following(coming_back=True))
        ids = list[str]()
        for n in range(2):
            async with serving(tmp_path, listening(port)) as it:
                ids += await it.count(10 * n, 10 * n + 10)
                await client.hears(*ids)
                ids += await it.count(0, 5)
        async with serving(tmp_path, listening(port)) as it:
            await client.hears(*ids)
    assert (client.ids, client.gaps) == (ids, 0)
    assert client.ends == 4, "each stream was ended in good order"


@pytest.fixture
async def replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Service, Service]]:
    monkeypatch.setattr(databases, "kind", "postgresql")
    async with serving(tmp_path) as first, serving(tmp_path) as other:
        yield first, other
    databases.forget()


async def test_a_client_resumes_at_another_replica(replicas: tuple[Service, Service]) -> None:
    """While both replicas write."""
    first, other = replicas
    client, ids = Follower(""), list[str]()

    async def write(it: Service) -> None:
        for n in range(40):
            ids.extend(await it.say({"n": n}, {"m": n}))

    async with Follower(first.url).following() as steady:
        writing = asyncio.gather(write(first), write(other))
        for turn in range(12):
            client.url = replicas[turn % 2].url
            seen = len(client.ids)
            async with client.following():
                await until(lambda seen=seen: len(client.ids) > seen or writing.done())  # type: ignore[misc]
        await writing
        await until(lambda: len(steady.ids) >= len(ids))
        async with client.following():
            await until(lambda: client.ids[-1:] == steady.ids[-1:])
    begun = steady.ids.index(client.ids[0])
    assert client.ids == steady.ids[begun:], "the order is the same everywhere"
    assert sorted(steady.ids) == sorted(ids)


async def test_events_committed_out_of_order_are_not_missed(
    replicas: tuple[Service, Service],
) -> None:
    """The second is committed first: clients receive neither, then both."""
    it, other = replicas
    first, second = it.runtime.ids("evt"), other.runtime.ids("evt")
    url = it.runtime.settings.database_url
    async with Follower(it.url).following() as client, other.caller() as http:
        mark = (await http.get("/v1/events?wait=0")).json()["next_cursor"]
        async with Follower(other.url).following() as other_client:
            with psycopg.connect(url) as slow, psycopg.connect(url) as quick:
                insert(slow, first)
                insert(quick, second)
                quick.commit()
                # It is visible to queries.
                assert [row["id"] for row in (await http.get("/v1/events")).json()["data"]] == [
                    second
                ]
                assert (await http.get(f"/v1/events?wait=1&after={mark}")).json()["data"] == []
                assert (client.ids, other_client.ids) == ([], [])
                slow.commit()
            for follower in (client, other_client):
                await follower.hears(first, second)
        for seen, rest in ((first, [second]), (mark, [first, second])):
            page = (await http.get(f"/v1/events?wait=5&after={seen}")).json()
            assert [row["id"] for row in page["data"]] == rest


async def test_a_client_receives_matching_events(tmp_path: Path, everywhere: None) -> None:
    """And resumes at its position after any number of other events."""
    async with serving(tmp_path) as it, it.caller() as http:
        client = Follower(it.url, "types=job.f*,account.*")
        async with client.following():
            await it.say({}, {}, kind=EventType.JOB_PROCESSING)
            (first,) = await it.say({}, kind=EventType.JOB_FAILED)
            await it.say({})
            (second,) = await it.say({}, kind=EventType.ACCOUNT_PUSH_DEGRADED)
            await client.hears(first, second)
        await it.say({})
        (third,) = await it.say({}, kind=EventType.JOB_FAILED)
        async with client.following():
            await client.hears(first, second, third)
        assert client.ids == [first, second, third]
        refused = await http.get("/v1/events/stream?types=nonsense")
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/types/0")


async def test_an_unknown_last_event_id_is_reported_as_a_gap_first(
    tmp_path: Path, everywhere: None
) -> None:
    async with serving(tmp_path) as it:
        before = await it.count(0, 3)
        old = Follower(it.url, last=an_id(1))
        async with old.following():
            later = await it.count(3, 5)
            await old.hears(*before, *later)
        assert old.events[0][0] == "stream.gap"
        assert (old.gaps, old.ids) == (1, before + later), "existing events follow"
        never = Follower(it.url, last=it.runtime.ids("evt"))
        async with never.following():
            (last,) = await it.count(5, 6)
            await never.hears(last)
        assert [kind for kind, _, _ in never.events] == ["stream.gap", "job.succeeded"]
        assert never.events[0][2] == {"type": "stream.gap", "resumes_after": later[-1]}
        async with never.following():
            (more,) = await it.count(6, 7)
            await never.hears(last, more)
        assert never.gaps == 1, "and not again"


async def test_heartbeats_break_the_silence(
    tmp_path: Path, everywhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They move the position of a client past events that do not match."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    async with serving(tmp_path) as it, Follower(it.url, "types=job.failed").following() as client:
        await until(lambda: client.lines.count(": still here") >= 3, "heartbeats")
        (passed,) = await it.say({})
        await until(lambda: client.last == passed, "its position moves")
        assert client.events == []
        assert client.lines.count(f"id: {passed}") == 1


async def test_a_stream_ends_after_its_maximum_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_DURATION", 0.1)
    async with serving(tmp_path) as it, Follower(it.url).following(coming_back=True) as client:
        ids = list[str]()
        while client.ends < 3:
            ids += await it.count(0, 1)
        await client.hears(*ids)
        assert client.ids == ids


async def raw(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a stream with a small receive buffer, read its head, and then nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    key = KEYED["authorization"]
    head = f"GET /v1/events/stream HTTP/1.1\r\nhost: {host}\r\nauthorization: {key}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"retry: 2000")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return reader, writer


@contextlib.asynccontextmanager
async def unread(
    url: str, count: int
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Clients that do not read."""
    made = [await raw(url) for _ in range(count)]
    try:
        yield made
    finally:
        for _, writer in made:
            writer.transport.abort()


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_slow_reader_receives_everything_and_delays_no_other(
    tmp_path: Path, everywhere: None
) -> None:
    """The backlog is larger than the shared buffer."""
    async with serving(tmp_path) as it, unread(it.url, 1) as ((reader, writer),):
        async with Follower(it.url).following() as quick:
            ids = [event_id for _ in range(28) for event_id in await it.say(*[BIG] * 10)]
            await quick.hears(*ids)
        received = list[str]()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        rest = b""
        async with asyncio.timeout(60):
            while len(received) < len(ids):
                rest += await reader.read(65536)
                *lines, rest = rest.split(b"\n")
                received += [
                    line[4:].decode()
                    for line in lines
                    if line.startswith(b"id: ") and line[4:].decode() in ids
                ]
        assert received == ids


async def test_many_clients_that_do_not_read_cost_little_memory(tmp_path: Path) -> None:
    """20 MB for each of them would be 1 GB. The service holds the events once, and its queries."""
    async with serving(tmp_path) as it, unread(it.url, 50):
        before = memory()
        for _ in range(40):
            ids = await it.say(*[BIG] * 10)
        await until(lambda: it.runtime.feed._end.id == ids[-1])
        grown = memory() - before
        assert grown < 80 << 20, f"{grown >> 20} MiB"


async def test_a_client_that_never_reads_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SEND_DEADLINE", 0.2)
    async with serving(tmp_path) as it:
        it.runtime.waiting_slots = slots = Admission(it.runtime.rng, Limit(9), Limit(1))
        async with unread(it.url, 1):
            key = f"bootstrap_{digest(KEY)[:12]}"
            assert slots.is_full(key)
            while slots.is_full(key):
                await it.say(*[BIG] * 20)


async def test_open_streams_do_not_delay_shutdown(tmp_path: Path, everywhere: None) -> None:
    """Three of them are not read."""
    clients = [Follower("") for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        async with serving(tmp_path) as it:
            for client in clients:
                client.url = it.url
                await stack.enter_async_context(client.following())
            await stack.enter_async_context(unread(it.url, 3))
            for _ in range(10):
                ids = await it.say(*[BIG] * 10)
            for client in clients:
                await until(lambda client=client: client.ids[-1:] == ids[-1:])  # type: ignore[misc]
            begun = time.monotonic()
        assert time.monotonic() - begun < 4
        await until(lambda: all(client.ends for client in clients), "every stream has an end")


async def test_the_log_is_read_once_for_all_clients(tmp_path: Path, everywhere: None) -> None:
    async with serving(tmp_path) as it, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Follower(it.url).following()) for _ in range(12)]
        queries = list[str]()
        sa.event.listen(
            it.runtime.store._database.reading,
            "before_cursor_execute",
            lambda *args: queries.append(args[2]),
        )
        ids = await it.say({}, {})
        for client in clients:
            await client.hears(*ids)
        assert len([sql for sql in queries if "event.body" in sql and "length" not in sql]) == 1


async def test_waiting_slots_are_limited(tmp_path: Path) -> None:
    async with serving(tmp_path) as it, it.caller() as http:
        it.runtime.waiting_slots = Admission(it.runtime.rng, Limit(2), Limit(2))
        async with Follower(it.url).following(), Follower(it.url).following():
            job = {"model": "m", "input": {"prompt": "a cat"}}
            for path in ("/v1/events/stream", "/v1/events?wait=1"):
                refused = await http.get(path)
                assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
                assert int(refused.headers["retry-after"]) >= 1
            made = await http.post("/v1/jobs", json=job, headers={"prefer": "wait=60"})
            assert (made.status_code, made.headers.get("preference-applied")) == (202, None), (
                "stored, not waited for"
            )
            looked = await http.get(f"/v1/jobs/{made.json()['id']}", headers={"prefer": "wait=60"})
            assert looked.status_code == 503

        async def has_free_slot() -> bool:
            return (await http.get("/v1/events?wait=0")).status_code == 200

        await eventually(has_free_slot, "slots are free again")


async def test_a_stream_needs_a_key_and_a_valid_last_event_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as it, httpx.AsyncClient(base_url=it.url) as anonymous:
        assert (await anonymous.get("/v1/events/stream")).status_code == 401
        async with it.caller() as http:
            for header in ("nonsense", "job_01kb7x3m5tf6a8r2w9n4c1d0eh"):
                refused = await http.get("/v1/events/stream", headers={"last-event-id": header})
                assert refused.json()["errors"][0]["pointer"] == "/last_event_id"
            assert (
                (await http.head("/v1/events/stream"))
                .headers["content-type"]
                .startswith("text/event-stream")
            )


async def test_an_internal_error_ends_streams_and_reconnected_clients_miss_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that has failed must end its streams: they would be silent, new ones too."""
    look, failed = log.watermark, list[bool]()

    def fail_once(tx: Tx, known: Watermark) -> Watermark:
        if len(failed) == 1:
            return look(tx, known)
        failed.append(True)
        raise ZeroDivisionError

    async with serving(tmp_path) as it, Follower(it.url).following(coming_back=True) as client:
        (first,) = await it.say({})
        await client.hears(first)
        monkeypatch.setattr(log, "watermark", fail_once)
        await until(lambda: failed, "the next look fails")
        (second,) = await it.say({})
        await client.hears(first, second)
        assert client.ends == 1


async def test_a_position_reused_by_sqlite_hides_no_event(tmp_path: Path) -> None:
    """After the newest event is deleted, the next has its rowid: followers restart by id."""
    async with serving(tmp_path) as it, Follower(it.url).following(coming_back=True) as client:
        kept, gone = await it.say({}, {})
        await client.hears(kept, gone)
        await it.runtime.store.write(
            lambda tx: tx.execute(sa.delete(event).where(event.c.id == gone)) and None
        )
        (same,) = await it.say({})
        await client.hears(kept, gone, same)
        assert (client.ids, client.gaps, client.ends) == ([kept, gone, same], 1, 1)
