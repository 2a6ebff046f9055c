"""Connections of the service: what is served, and what a request may cost."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from orchestrator.foundation.settings.http import Http
from tests.harness.raw_client import Server, echoes, everything, request, served, statuses

LIMITS = Http()
CHUNKED = "transfer-encoding: chunked"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(LIMITS) as running:
        yield running


def ask(server: Server, *pieces: bytes, half_closed: bool = True) -> bytes:
    """Send pieces, and return all that comes back. A server may close in between."""
    with server.connect() as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                client.sendall(piece)
            if half_closed:
                client.shutdown(socket.SHUT_WR)
        return everything(client)


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0", "h2c, foo/2"])
@pytest.mark.parametrize("connection", ["Upgrade, HTTP2-Settings", "upgrade", "keep-alive,Upgrade"])
def test_an_upgrade_that_is_not_taken_is_ignored(
    server: Server, offer: str, connection: str
) -> None:
    fields = (f"Connection: {connection}", f"Upgrade: {offer}", "HTTP2-Settings: AAEAAEAA")
    post, get = request("POST", "/a", b'{"x": 1}', *fields), request("GET", "/b", b"", *fields)
    chunked = request("POST", "/c", b"", CHUNKED, *fields) + b"3\r\nabc\r\n0\r\n\r\n"
    old = request("POST", "/d", b"1234", *fields, version="1.0")
    answer = ask(server, post + get + chunked + old)
    assert statuses(answer) == [200] * 4
    assert [(each["method"], each["size"]) for each in echoes(answer)] == [
        ("POST", 8), ("GET", 0), ("POST", 3), ("POST", 4),
    ]  # fmt: skip
    assert "upgrade" not in echoes(answer)[0]["names"]


def test_a_tunnel_is_refused(server: Server) -> None:
    assert statuses(ask(server, request("CONNECT", "example.com:443"))) == [400]


ENDLESS = {
    "many fields": (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 1000, 431),
    "one value": (b"GET / HTTP/1.1\r\na: ", b"x" * 65536, 431),
    "one name": (b"GET / HTTP/1.1\r\n", b"x" * 65536, 431),
    "a URL": (b"GET /", b"x" * 65536, 414),
    "trailers": (request("POST", "/", b"", CHUNKED) + b"0\r\n", b"a: b\r\n" * 1000, 431),
    "a chunk extension": (request("POST", "/", b"", CHUNKED) + b"1;", b"x" * 65536, 431),
    "empty lines in a chunk": (
        request("POST", "/", b"", CHUNKED) + b"fffffff\r\n",
        b"\r\n" * 9999,
        431,
    ),
}


@pytest.mark.parametrize(("start", "more", "status"), ENDLESS.values(), ids=ENDLESS)
def test_an_endless_request_ends(server: Server, start: bytes, more: bytes, status: int) -> None:
    with server.connect() as client:
        client.sendall(start)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range((8 << 20) // len(more)):
                client.sendall(more)
        assert statuses(client.recv(65536)) == [status]


def test_the_limits_of_a_head_are_exact(server: Server) -> None:
    fields = [f"f{number}: x" for number in range(LIMITS.head_fields - 1)]
    assert statuses(ask(server, request("GET", "/", b"", *fields))) == [200]
    assert statuses(ask(server, request("GET", "/", b"", *fields, "one: more"))) == [431]
    size = LIMITS.head_bytes - len(request("GET", "/", b"", "f: "))
    assert statuses(ask(server, request("GET", "/", b"", "f: " + "x" * size))) == [200]
    assert statuses(ask(server, request("GET", "/", b"", "f: x" + "x" * size))) == [431]
    assert statuses(ask(server, request("GET", "/" + "x" * LIMITS.head_bytes))) == [414]


def test_trailers_are_bounded_and_are_no_headers(server: Server) -> None:
    start = request("POST", "/", b"", CHUNKED) + b"1\r\nx\r\n0\r\n"
    answer = ask(server, start + b"authorization: Bearer x\r\n\r\n" + request("GET", "/after"))
    assert statuses(answer) == [200, 200]
    assert all("authorization" not in each["names"] for each in echoes(answer))
    many = b"".join(b"f%d: x\r\n" % number for number in range(LIMITS.head_fields + 1))
    assert statuses(ask(server, start, many + b"\r\n")) == [431]
    assert statuses(ask(server, start, b"f: " + b"x" * (1 << 20))) == [431]


def test_what_stands_around_small_chunks_is_bounded(server: Server) -> None:
    chunks = b"1;name=" + b"x" * 400 + b"\r\nx\r\n"
    assert statuses(ask(server, request("POST", "/", b"", CHUNKED), *[chunks] * 500)) == [431]


def test_a_body_may_come_in_any_number_of_small_chunks(server: Server) -> None:
    chunks = [b"1\r\nx\r\n"] * 3000
    answer = ask(server, request("POST", "/", b"", CHUNKED), *chunks, b"0\r\n\r\n")
    assert [each["size"] for each in echoes(answer)] == [3000]


def test_requests_are_answered_in_order_however_they_are_cut(server: Server) -> None:
    chunks = b"5\r\na\r\n\r\n\r\n0\r\n\r\n"
    wanted = [("/1", 0), ("/2", 3), ("/3", 5), ("/4", 0)]
    stream = (
        request("GET", "/1") + request("POST", "/2", b"abc") + b"\r\n"
        + request("POST", "/3", b"", CHUNKED) + chunks + request("GET", "/4")
    )  # fmt: skip
    for size in (1, 2, 3, 7, len(stream)):
        answer = ask(server, *(stream[at : at + size] for at in range(0, len(stream), size)))
        assert [(each["path"], each["size"]) for each in echoes(answer)] == wanted


def test_what_is_pipelined_is_bounded_and_what_was_asked_first_is_answered(server: Server) -> None:
    """Too much behind a request ends the connection, after the response."""
    with server.connect() as client:
        client.sendall(request("GET", "/wait") + request("POST", "/", b"x" * 100_000))
        ask(server, request("GET", "/go"))
        assert statuses(everything(client)) == [200]


def test_a_client_that_shuts_its_writing_side_is_answered(server: Server) -> None:
    assert echoes(ask(server, request("POST", "/", b"abc")))[0]["size"] == 3
    assert statuses(ask(server, request("GET", "/left"))) == [200], "to the application it has left"
    assert statuses(ask(server, request() * 5)) == [200] * 5
    assert statuses(ask(server, request("POST", "/", b"abc")[:-1])) == [400]
    assert statuses(ask(server, b"GET / HTTP/1.1\r\n")) == [400]
    assert ask(server, b"") == b""


def test_a_response_without_a_length_ends_an_old_clients_connection(server: Server) -> None:
    answer = ask(server, request("GET", "/stream", version="1.0"), half_closed=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert echoes(body)[0]["path"] == "/stream"
    assert b"chunked" in ask(server, request("GET", "/stream"))
    assert echoes(ask(server, request(version="1.0"), half_closed=False))[0]["path"] == "/"


def test_a_refusal_reaches_a_client_that_is_still_sending(server: Server) -> None:
    with server.connect() as client:
        client.sendall(request("GET", "/", b"", *("a: b" for _ in range(200))))
        client.sendall(b"x" * 100_000)
        assert statuses(everything(client)) == [431]
    with server.connect() as client:
        client.sendall(request("POST", "/early", b"x" * 9, "connection: close")[:-9])
        client.sendall(b"x" * 8)
        assert statuses(everything(client)) == [200]


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\nhost: x\n\n"],
    ids=["TLS", "version", "bare LF"],
)
def test_what_is_no_request_is_refused_at_once(server: Server, garbage: bytes) -> None:
    answer = ask(server, garbage, half_closed=False)
    assert statuses(answer) == [400]
    assert b"application/problem+json" in answer
