"""Connections of the service: how long a client may take, and how many there may be."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from orchestrator.foundation.settings.http import Http
from orchestrator.ingress.connections import limit_of
from tests.harness.raw_client import LARGE, Server, everything, request, served, statuses
from tests.harness.supervised import until

QUICK = Http(
    head_timeout=0.3, body_timeout=0.3, body_rate=1000, write_timeout=0.3, idle_timeout=0.3,
    max_connections=8,
)  # fmt: skip


#: The end of a chunked body.
END = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(QUICK) as running:
        yield running


@contextlib.contextmanager
def connected(server: Server, *sent: bytes) -> Iterator[list[socket.socket]]:
    """Yield a connection for each of these bytes, which have been sent on it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in sent]
        for client, data in zip(clients, sent, strict=True):
            client.sendall(data)
        yield clients


def test_every_wait_for_a_client_ends(server: Server) -> None:
    waits = {
        b"": [],
        b"GET / HT": [408],
        request("POST", "/", b"123")[:-1]: [408],
        request("POST", "/", b"", "transfer-encoding: chunked") + b"5\r\nab": [408],
        request(): [200],
    }
    with connected(server, *waits) as clients:
        for client, expected in zip(clients, waits.values(), strict=True):
            assert statuses(everything(client)) == expected


def test_a_slow_body_is_read_for_as_long_as_it_keeps_its_rate(server: Server) -> None:
    """500 bytes at once earn half a second; a byte at a time earns nothing."""
    with connected(server, request("POST", "/", b"x" * 600)[:-100]) as (client,):
        stopped = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not stopped.wait(0.05):
                    client.sendall(b"x")

        sender = threading.Thread(target=trickle)
        sender.start()
        assert statuses(everything(client)) == [408]
        stopped.set()
        sender.join()


def test_a_body_that_waits_for_the_application_is_not_refused() -> None:
    """The deadline of a body stops meanwhile, and what it counts has no part in its limits."""
    text = (b"x" * 1020 + b"\r\n\r\n") * 64
    chunks = b"10000\r\n" + text + b"\r\n"
    with served(QUICK) as server, server.connect() as client:
        start = request("POST", "/later", b"", "transfer-encoding: chunked")
        sending = threading.Thread(target=client.sendall, args=(start + chunks * 64 + END,))
        sending.start()
        # The sweep that closes a silent connection looks at the other as well.
        for _ in range(2):
            with connected(server, b"") as (silent,):
                assert everything(silent) == b""
        with connected(server, request("GET", "/go")) as (other,):
            assert other.recv(100)
        answer = b""
        while b'"size"' not in answer:
            answer += client.recv(65_536)
        sending.join()
    assert statuses(answer) == [200]
    assert f'"size": {64 * 65_536},'.encode() in answer


def test_a_client_that_does_not_read_is_cut_off(server: Server) -> None:
    with connected(server, request("GET", "/large")) as (client,):
        until(lambda: server.connections == 1, "it is connected")
        until(lambda: server.connections == 0, "it is cut off")
        assert len(everything(client)) < LARGE


def test_at_the_limit_the_longest_unused_connection_makes_room(server: Server) -> None:
    half = b"GET / HT"
    with connected(server, *[half] * QUICK.max_connections) as clients:
        with server.connect() as another:
            another.sendall(request("GET", "/", b"", "connection: close"))
            assert statuses(everything(another)) == [200]
        assert everything(clients[0]) == b""


def test_at_the_limit_requests_are_not_cut_off(server: Server) -> None:
    busy = request("GET", "/left")
    with connected(server, *[busy] * QUICK.max_connections) as clients:
        with server.connect() as another:
            assert statuses(everything(another)) == [503]
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        assert [statuses(everything(client)) for client in clients] == [[200]] * len(clients)


def test_the_connection_limit_is_below_that_of_open_files() -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit_of(Http(max_connections=1_000_000)) == files // 2
    assert limit_of(Http(max_connections=5)) == 5
