"""The loop of brokers: it connects where the policy allows, and crosses threads both ways."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.egress import broker_loop
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.egress.guarded_loop import ROOM, ROOM_OF_A_MESSAGE, Reach, reach
from orchestrator.foundation.errors import Blocked
from tests.egress.test_certificates import Authority

Connect = Callable[[], Awaitable[Any]]


@pytest.fixture
async def brokers() -> AsyncIterator[BrokerLoop]:
    """A loop that may reach public addresses alone."""
    opened = BrokerLoop(AddressPolicy())
    yield opened
    await opened.aclose()


@pytest.fixture
async def local() -> AsyncIterator[BrokerLoop]:
    """A loop that may reach loopback too."""
    opened = BrokerLoop(AddressPolicy(["127.0.0.0/8"]))
    yield opened
    await opened.aclose()


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def tcp() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made


async def given_socket() -> None:
    """Connect a socket by `sock_connect`, as some libraries do, and close it."""
    with tcp() as made:
        await loop().sock_connect(made, ("127.0.0.1", 4222))


async def connected_before() -> None:
    with tcp() as made:
        await loop().create_connection(asyncio.Protocol, sock=made)


async def unix_socket() -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.setblocking(False)
        await loop().sock_connect(made, "/run/docker.sock")


@pytest.mark.parametrize(
    "connect",
    [
        lambda: asyncio.open_connection("127.0.0.1", 6379),
        lambda: asyncio.open_connection("169.254.169.254", 80),
        lambda: asyncio.open_connection("::1", 6379),
        lambda: asyncio.open_connection("::ffff:10.0.0.1", 6379),
        lambda: asyncio.open_connection("2130706433", 6379),
        lambda: asyncio.open_connection("localhost", 6379),
        lambda: loop().getaddrinfo(b"localhost", 6379),
        lambda: asyncio.open_connection(None, 6379),
        lambda: asyncio.open_connection("", 6379),
        lambda: asyncio.open_connection("8.8.8.8", 22),
        lambda: asyncio.open_connection("8.8.8.8", 25),
        lambda: asyncio.open_connection("localhost", 6379, happy_eyeballs_delay=1),
        given_socket,
        connected_before,
        unix_socket,
        lambda: asyncio.open_unix_connection("/run/docker.sock"),
        lambda: loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("8.8.8.8", 53)),
        lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 0),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.create_subprocess_shell("true"),
    ],
)  # fmt: skip
async def test_nothing_reaches_what_the_policy_forbids(
    brokers: BrokerLoop, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(*_: object) -> None:
        raise AssertionError("a socket was connected")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "_sock_connect", connected)

    async def attempt() -> Reach:
        noted = Reach()
        reach.set(noted)
        with pytest.raises(Blocked):
            await connect()
        return noted

    noted = await brokers.run(attempt, 5)
    assert (noted.allowed, type(noted.blocked)) == (0, Blocked)


async def test_a_host_that_a_broker_names_is_checked_like_any_other(
    local: BrokerLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on loopback, which is allowed, sends its client to a member elsewhere."""
    answered = asyncio.Event()
    found = {"broker.example.com": "127.0.0.1", "member.example.com": "10.0.0.7"}

    def names(host: str, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found[host], 0))]

    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"member.example.com\n")
        writer.close()
        await writer.wait_closed()
        answered.set()

    async def follow(port: int) -> Reach:
        noted = Reach()
        reach.set(noted)
        reader, writer = await asyncio.open_connection("broker.example.com", port)
        member = (await reader.readline()).decode().strip()
        writer.close()
        await writer.wait_closed()
        with pytest.raises(Blocked, match=r"10\.0\.0\.7"):
            # A task of the library's own.
            await asyncio.create_task(loop().create_connection(asyncio.Protocol, member, port))
        return noted

    monkeypatch.setattr(socket, "getaddrinfo", names)
    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        noted = await local.run(lambda: follow(port), 5)
        await answered.wait()
    assert noted.allowed == 1
    assert noted.blocked is not None


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_a_broker_that_sends_more_than_answers_is_cut_off(
    local: BrokerLoop, tmp_path: Path, is_encrypted: bool
) -> None:
    """A library waits for what a broker announces, and keeps it: here four gigabytes."""
    authority = Authority(tmp_path)

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(bytes(1 << 16))
                await writer.drain()
                # On a lost connection, `drain` returns without letting the loop learn of it.
                await asyncio.sleep(0)
        writer.close()

    async def read(port: int, messages: int) -> int:
        reached = Reach()
        reach.set(reached)
        trusted = ssl.create_default_context(cafile=str(authority.pem)) if is_encrypted else None
        name = "broker.example.com" if is_encrypted else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusted, server_hostname=name
        )
        for _ in range(messages):
            reached.extend()
        with pytest.raises((ConnectionAbortedError, asyncio.IncompleteReadError)) as caught:
            await reader.readexactly(4 << 30)
        writer.close()
        return len(getattr(caught.value, "partial", b""))

    tls = authority.server("broker.example.com") if is_encrypted else None
    server = await asyncio.start_server(flood, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await local.run(lambda: read(port, 10_000), 10) <= ROOM


async def test_each_message_makes_room_for_its_answer() -> None:
    reached = Reach()
    for _ in range(1000):
        reached.received(ROOM_OF_A_MESSAGE)
        reached.extend()
    reached.received(ROOM)
    with pytest.raises(ConnectionAbortedError):
        reached.received(1)


async def test_the_thread_starts_with_the_first_call_and_ends_with_the_service() -> None:
    brokers = BrokerLoop(AddressPolicy())
    await brokers.aclose()
    assert not brokers.is_running

    async def where() -> str:
        return threading.current_thread().name

    for _ in range(2):
        assert await brokers.run(where, 5) == "brokers"
        (thread,) = [one for one in threading.enumerate() if one.name == "brokers"]
        await brokers.aclose()
        assert not thread.is_alive()


async def test_results_and_errors_cross_and_the_deadline_cancels_over_there(
    brokers: BrokerLoop,
) -> None:
    canceled = threading.Event()

    async def fails() -> None:
        raise LookupError("over there")

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            canceled.set()

    async def number(n: int) -> int:
        return n

    assert await asyncio.gather(
        *(brokers.run(lambda n=n: number(n), 5) for n in range(100))  # type: ignore[misc]
    ) == list(range(100))
    with pytest.raises(LookupError, match="over there"):
        await brokers.run(fails, 5)
    with pytest.raises(TimeoutError):
        await brokers.run(hangs, 0.01)
    assert await asyncio.to_thread(canceled.wait, 5)


async def test_a_caller_that_is_canceled_cancels_what_runs_there(brokers: BrokerLoop) -> None:
    began, canceled = threading.Event(), threading.Event()

    async def hangs() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            canceled.set()

    call = asyncio.create_task(brokers.run(hangs, 60))
    await asyncio.to_thread(began.wait, 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(canceled.wait, 5)


async def test_a_call_that_is_canceled_before_the_thread_looks_never_starts(
    brokers: BrokerLoop,
) -> None:
    held, began = threading.Event(), list[str]()

    async def blocks() -> None:
        held.wait(5)

    async def starts() -> None:
        began.append("started")

    first = asyncio.create_task(brokers.run(blocks, 5))
    await asyncio.sleep(0)
    second = asyncio.create_task(brokers.run(starts, 5))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    held.set()
    await first
    assert not began


async def test_a_stop_ends_what_runs_and_a_library_that_blocks_delays_neither_deadline_nor_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker_loop, "_JOIN", 0.05)
    brokers, held = BrokerLoop(AddressPolicy()), threading.Event()

    async def hangs() -> None:
        await asyncio.Event().wait()

    call = asyncio.create_task(brokers.run(hangs, 60))
    await asyncio.sleep(0)
    await brokers.aclose()
    with pytest.raises(ConnectionError):
        await call

    async def blocks() -> None:
        held.wait(5)

    with pytest.raises(TimeoutError):
        await brokers.run(blocks, 0.01)
    await brokers.aclose()
    held.set()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_a_library_does_not_end_the_thread_nor_the_service(
    brokers: BrokerLoop, error: type[BaseException]
) -> None:
    async def ends() -> None:
        raise error

    async def answers() -> int:
        return 1

    with pytest.raises(ConnectionError):
        await brokers.run(ends, 5)
    assert await brokers.run(answers, 5) == 1


async def test_calls_that_are_made_before_the_thread_looks_share_one_crossing(
    brokers: BrokerLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, held, crossings, here = threading.Event(), threading.Event(), list[object](), loop()
    cross = asyncio.SelectorEventLoop.call_soon_threadsafe

    async def blocks() -> None:
        began.set()
        held.wait(5)

    async def nothing() -> None:
        return None

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        crossings.extend([self] if self is not here else [])
        return cross(self, *args, **kwargs)

    first = asyncio.create_task(brokers.run(blocks, 5))
    await asyncio.to_thread(began.wait, 5)
    monkeypatch.setattr(asyncio.SelectorEventLoop, "call_soon_threadsafe", counted)
    calls = [asyncio.create_task(brokers.run(nothing, 5)) for _ in range(500)]
    await asyncio.sleep(0)
    held.set()
    await asyncio.gather(first, *calls)
    assert len(crossings) == 1
