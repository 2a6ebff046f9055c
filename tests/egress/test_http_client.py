"""Egress on real sockets: forbidden addresses, and whether a failure is NotSent or CutOff."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator

import httpx
import pytest

from orchestrator import __version__
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from orchestrator.foundation.errors import Blocked, ConfigError, CutOff, NotSent, TooLate
from tests.harness.raw_http import LOOPBACK, OK, Handler, open_client, post, responding, serving
from tests.harness.streams import accepting


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def stays_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def trickles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


# -- the address policy

FORBIDDEN = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16
    169.254.169.254 169.254.0.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.192 192.0.2.1
    192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::a00:1 100::1 200::1 64:ff9b:1:7f00:0:100:808:808 2001::1 2001:0:7f00:1::
    2001:10::1 2001:20::1 2001:2::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1
    fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254
    ::ffff:0:7f00:1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1
    64:ff9b:1::169.254.169.254 nonsense 127.1 010.0.0.1
"""


@pytest.mark.parametrize("address", FORBIDDEN.split())
def test_an_address_that_is_not_public_is_blocked(address: str) -> None:
    with pytest.raises(Blocked) as refusal:
        AddressPolicy().check(address)
    assert refusal.value.kind == "blocked_address"


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_a_public_address_passes(address: str) -> None:
    AddressPolicy().check(address)


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "64:ff9b:1::10.1.2.3", "fd12::7"],
)
def test_an_allowed_network_passes_in_every_form(address: str) -> None:
    AddressPolicy(["10.0.0.0/8", "fd12::/16"]).check(address, port=22)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "11.0.0.1%", "169.254.169.254", "64:ff9b::127.0.0.1", "fd13::1"]
)
def test_an_allowed_network_allows_nothing_else(address: str) -> None:
    with pytest.raises(Blocked):
        AddressPolicy(["10.0.0.0/8", "fd12::/16"]).check(address)


def test_allowing_ipv4_loopback_allows_the_ipv6_loopback() -> None:
    LOOPBACK.check("::1")


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "localhost", ""])
def test_an_allowed_network_that_is_not_a_cidr_is_a_config_error(cidr: str) -> None:
    with pytest.raises(ConfigError, match="allow_private"):
        AddressPolicy([cidr])


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"http://{host}/"
            for host in ("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001")
        ),
        *(
            f"http://{host}/"
            for host in ("127.0.0.1.", "localhost", "LOCALHOST.", "a.localhost", "ip6-localhost")
        ),
        *(
            f"http://[{host}]/"
            for host in ("::1", "::ffff:7f00:1", "fe80::1%25eth0", "64:ff9b::a9fe:a9fe")
        ),
        *(
            "ftp://example.com/",
            "file:///etc/passwd",
            "//example.com/",
            "http:///x",
            "no url",
            "http://0177.0.0.1/",
        ),
        *(
            "http://user:secret@example.com/",
            "http://user@example.com/",
            "https://example.com:99999/",
            "http://\x00/",
        ),
        *("http://example.com:22/", "https://8.8.8.8:25/", "http://example.com:0/"),
    ],
)
def test_a_forbidden_url_is_refused_before_it_is_used(url: str) -> None:
    with pytest.raises(Blocked) as refusal:
        AddressPolicy().check_url(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["https://example.com/hook?a=1", "http://8.8.8.8:8080/", "https://[2606:4700::1111]/"]
)
def test_an_ordinary_url_is_accepted(url: str) -> None:
    AddressPolicy().check_url(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:81/", "http://localhost:8000/", "http://[::1]/", "http://0x7f.1/"]
)
def test_an_allowed_literal_is_accepted_on_any_port(url: str) -> None:
    LOOPBACK.check_url(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_no_socket_is_opened_to_a_forbidden_address(host: str) -> None:
    async with serving(responding(OK)) as server, open_client(AddressPolicy()) as client:
        with pytest.raises(Blocked):
            await client.send(post(server.url(host=host)), deadline=5)
        assert server.connections == 0


async def test_an_ambiguous_form_of_an_address_is_blocked_even_if_it_is_allowed() -> None:
    async with open_client() as client:
        with pytest.raises(Blocked):
            await client.send(post("http://2130706433/"), deadline=5)


async def test_a_name_is_blocked_if_any_of_its_addresses_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(responding(OK)) as server, open_client() as client:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
            for host in ("127.0.0.1", "10.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(Blocked):
            await client.send(post(server.url(host="mixed.example")), deadline=5)
        assert server.connections == 0


async def test_credentials_in_a_url_are_refused_instead_of_becoming_a_header() -> None:
    async with serving(responding(OK)) as server, open_client() as client:
        with pytest.raises(Blocked):
            await client.send(post(server.url(host="user:secret@127.0.0.1")), deadline=5)
        assert server.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_allowed_address_is_reached_by_number_and_by_name(host: str) -> None:
    async with serving(responding(OK)) as server, open_client() as client:
        answer = await client.send(post(server.url(host=host)), deadline=5)
    assert (answer.status_code, answer.content) == (200, b"ok")


# -- before the first byte: NotSent


async def test_a_refused_connection_was_not_sent() -> None:
    await assert_not_sent(f"http://127.0.0.1:{free_port()}/", "connection_refused")


async def test_a_name_without_an_address_was_not_sent() -> None:
    await assert_not_sent("http://missing.invalid/", "dns_error")


@pytest.mark.parametrize(
    "note", ["a\r\nb: c", "a\nb: c", "a\rb: c", "a\r\n\r\nGET / HTTP/1.1", "a\0b"]
)
async def test_a_header_that_cannot_be_written_was_not_sent(note: str) -> None:
    async with serving(responding(OK)) as server, open_client() as client:
        with pytest.raises(NotSent) as failure:
            await client.send(post(server.url(), note=note), deadline=5)
        assert (failure.value.kind, server.requests) == ("invalid_request", [])


async def test_a_handshake_that_never_ends_was_not_sent() -> None:
    """A plain server waits for a request that TLS never starts: the deadline passes first."""
    async with serving(stays_silent) as server:
        await assert_not_sent(server.url(scheme="https"), "timeout", deadline=0.1)


async def test_an_address_that_does_not_finish_connecting_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.egress.transport.CONNECT_TIMEOUT", 0.1)
    async with serving(stays_silent) as server:
        await assert_not_sent(server.url(scheme="https"), "connect_timeout")


async def test_a_request_that_may_no_longer_leave_once_it_is_connected_was_not_sent() -> None:
    """A process that stood still while it connected may find that another one took over."""
    async with serving(responding(OK)) as server, open_client() as client:
        request = post(server.url())
        request.extensions["may_leave"] = lambda: False
        with pytest.raises(TooLate):
            await client.send(request, deadline=5)
        assert request.extensions["sent"] is False
        request.extensions["may_leave"] = lambda: True
        await client.send(request, deadline=5)
    assert len(server.requests) == 1, "the first connection sent nothing"


async def assert_not_sent(
    url: str, kind: str, *, deadline: float = 5, tls: ssl.SSLContext | None = None
) -> None:
    async with open_client(tls=tls) as client:
        request = post(url)
        with pytest.raises(NotSent) as failure:
            await client.send(request, deadline=deadline)
    assert failure.value.kind == kind
    assert request.extensions["sent"] is False


# -- after it: CutOff


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (responding(close=True), "disconnected"),
        (responding(b"HTTP/1.1 200 OK\r\nContent-Le", close=True), "disconnected"),
        (
            responding(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", close=True),
            "disconnected",
        ),
        (
            responding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", close=True),
            "disconnected",
        ),
        (
            responding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=True),
            "bad_response",
        ),
        (responding(b"220 smtp ready\r\n\r\n", close=True), "bad_response"),
        (
            responding(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", close=True),
            "too_large",
        ),
        (resets, "connection_reset"),
        (stays_silent, "timeout"),
        (trickles, "timeout"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_failure_after_the_request_left_is_cut_off(
    answer: Handler, kind: str, method: str
) -> None:
    """Exactly one request, also of an idempotent method: nothing is resent on a new connection."""
    async with serving(answer) as server, open_client() as client:
        with pytest.raises(CutOff) as failure:
            await client.send(httpx.Request(method, server.url("/?key=secret")), deadline=1.0)
        assert failure.value.kind == kind
        assert len(server.requests) == 1
        assert "secret" not in str(failure.value)


async def test_a_trickling_server_is_cut_at_the_deadline() -> None:
    async with serving(trickles) as server, open_client() as client:
        started = asyncio.get_running_loop().time()
        with pytest.raises(CutOff):
            await client.send(post(server.url()), deadline=1.0)
        assert 0.3 <= asyncio.get_running_loop().time() - started < 2


# -- what is read

LONG = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 100_000


async def test_a_body_over_the_cap_is_cut_off() -> None:
    async with serving(responding(LONG)) as server, open_client() as client:
        with pytest.raises(CutOff) as failure:
            await client.send(post(server.url()), deadline=5, cap=1000)
    assert failure.value.kind == "too_large"


async def test_a_body_over_the_cap_is_truncated_on_request() -> None:
    async with serving(responding(LONG)) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5, cap=15, body="partial")
    assert answer.content == b"012345678901234"
    assert answer.extensions["partial"] == "too_large"


async def test_a_body_of_exactly_the_cap_is_whole() -> None:
    async with serving(responding(OK)) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5, cap=2)
    assert answer.content == b"ok"
    assert "partial" not in answer.extensions


async def test_nothing_is_decompressed() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with serving(responding(head + bomb)) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5)
        assert answer.content == bomb
        assert answer.headers["content-encoding"] == "gzip"
        assert b"accept-encoding: identity" in server.requests[0].lower()


async def test_informational_responses_are_skipped() -> None:
    announced = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with serving(responding(announced, OK)) as server, open_client() as client:
        for _ in range(2):
            assert (await client.send(post(server.url()), deadline=5)).content == b"ok"
        assert server.connections == 1


async def test_a_response_to_head_has_no_body_whatever_its_content_length() -> None:
    async with (
        serving(responding(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")) as server,
        open_client() as client,
    ):
        answer = await client.send(httpx.Request("HEAD", server.url()), deadline=5)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with (
        serving(responding(b"HTTP/1.1 200 OK\r\n\r\n", b"all", b" of it", close=True)) as server,
        open_client() as client,
    ):
        assert (await client.send(post(server.url()), deadline=5)).content == b"all of it"


async def test_a_redirect_is_returned_and_not_followed() -> None:
    async with serving(
        responding(b"HTTP/1.1 307 Go\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n")
    ) as server:
        async with open_client() as client:
            answer = await client.send(post(server.url()), deadline=5)
        assert (answer.status_code, answer.headers["location"], len(server.requests)) == (
            307,
            "/else",
            1,
        )


# -- the request


async def test_the_request_is_sent_as_it_was_built() -> None:
    headers = [
        ("User-Agent", "ours"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("Accept-Encoding", "br"),
    ]
    async with serving(responding(OK)) as server, open_client() as client:
        request = httpx.Request(
            "POST", server.url("/a%2Fb%41?q=%20+&q"), headers=headers, content=b"hello"
        )
        await client.send(request, deadline=5)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    assert start == b"POST /a%2Fb%41?q=%20+&q HTTP/1.1"
    host = b"Host: 127.0.0.1:%d" % server.port
    assert sorted(lines) == sorted(
        [host, *(f"{k}: {v}".encode() for k, v in headers), b"Content-Length: 5"]
    )
    assert body == b"hello"


async def test_host_user_agent_and_identity_encoding_are_added() -> None:
    """httpx adds none of them to a request with a stream."""
    async with serving(responding(OK)) as server, open_client() as client:
        await client.send(
            httpx.Request("GET", server.url(), stream=httpx.ByteStream(b"")), deadline=5
        )
        lines = server.requests[0].split(b"\r\n")
    assert lines == [
        b"GET / HTTP/1.1",
        b"Host: 127.0.0.1:%d" % server.port,
        f"User-Agent: orchestrator/{__version__}".encode(),
        b"Accept-Encoding: identity",
        b"",
        b"",
    ]


async def test_a_wrong_content_length_is_corrected() -> None:
    async with serving(responding(OK)) as server, open_client() as client:
        request = httpx.Request(
            "POST", server.url(), headers={"content-length": "99"}, content=b"hello"
        )
        await client.send(request, deadline=5)
    assert server.requests[0].lower().count(b"content-length") == 1
    assert server.requests[0].endswith(b"\r\nContent-Length: 5\r\n\r\nhello")


async def test_a_streamed_body_is_sent_whole_with_its_length() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        yield b"second"

    async with serving(responding(OK)) as server, open_client() as client:
        await client.send(httpx.Request("POST", server.url(), content=parts()), deadline=5)
        head, _, body = server.requests[0].lower().partition(b"\r\n\r\n")
    assert b"content-length: 11" in head
    assert b"transfer-encoding" not in head
    assert body == b"firstsecond"


async def test_a_large_body_is_sent_whole() -> None:
    large = bytes(range(256)) * 8192
    async with serving(responding(OK)) as server, open_client() as client:
        await client.send(httpx.Request("POST", server.url(), content=large), deadline=5)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(large) in head.lower()
    assert body == large


async def test_cookies_are_not_kept() -> None:
    async with (
        serving(responding(b"HTTP/1.1 204 No\r\nSet-Cookie: a=b\r\n\r\n")) as server,
        open_client() as client,
    ):
        for _ in range(2):
            await client.send(post(server.url(host="localhost")), deadline=5)
        assert b"cookie" not in server.requests[1].lower()


# -- connections


@pytest.mark.parametrize(("fresh", "connections"), [(False, 1), (True, 3)])
async def test_connections_are_kept_alive_unless_fresh_is_set(
    fresh: bool, connections: int
) -> None:
    async with serving(responding(OK)) as server, open_client(fresh=fresh) as client:
        for _ in range(3):
            await client.send(post(server.url()), deadline=5)
        assert server.connections == connections


async def test_an_unsolicited_response_is_not_returned_for_the_next_request() -> None:
    idle, forged = asyncio.Event(), asyncio.Event()

    async def forges(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        if server.connections == 1:
            await idle.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            forged.set()

    async with serving(forges) as server, serving(responding(OK)) as other, open_client() as client:
        await client.send(post(server.url()), deadline=5)
        idle.set()
        await forged.wait()
        # The forged response arrives during this request.
        await client.send(post(other.url()), deadline=5)
        assert (await client.send(post(server.url()), deadline=5)).content == b"ok"
        assert server.connections == 2


async def test_a_peer_that_always_sends_first_is_given_up() -> None:
    connections = 0

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"220 ready\r\n")
        await reader.read()
        writer.close()

    async with accepting(greets) as port, open_client() as client:
        with pytest.raises((NotSent, CutOff)) as failure:
            await client.send(post(f"http://127.0.0.1:{port}/"), deadline=5)
    assert failure.value.kind in {"connection_reset", "bad_response"}
    assert 0 < connections <= 3


async def test_a_peer_that_reads_nothing_holds_no_connection_past_the_deadline() -> None:
    body, given_up, taken = bytes(20_000_000), asyncio.Event(), asyncio.Queue[int]()

    async def reads_nothing_at_first(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await given_up.wait()
        size = 0
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 20):
                size += len(chunk)
        taken.put_nowait(size)
        writer.close()

    async with accepting(reads_nothing_at_first) as port, open_client() as client:
        with pytest.raises(CutOff):
            await client.send(
                httpx.Request("POST", f"http://127.0.0.1:{port}/", content=body), deadline=1.0
            )
        given_up.set()
        assert await taken.get() < len(body), "what was unread by then was discarded"


async def test_cancelled_requests_do_not_block_later_ones() -> None:
    release = asyncio.Event()

    async def answers_when_released(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(OK)

    async with serving(answers_when_released) as server:
        client = HttpClient(GuardedTransport(LOOPBACK, limit_per_host=4))
        for _round in range(3):
            tasks = [
                asyncio.create_task(client.send(post(server.url()), deadline=5)) for _ in range(8)
            ]
            for _ in range(4):
                await server.arrivals.acquire()
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(end, asyncio.CancelledError)
                for end in await asyncio.gather(*tasks, return_exceptions=True)
            )
        release.set()
        answers = await asyncio.gather(
            *(client.send(post(server.url()), deadline=5) for _ in range(8))
        )
        assert [answer.content for answer in answers] == [b"ok"] * 8
        await client.aclose()


# -- other transports


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("x"), NotSent),
        (httpx.ConnectTimeout("x"), NotSent),
        (httpx.PoolTimeout("x"), NotSent),
        (httpx.UnsupportedProtocol("x"), NotSent),
        (httpx.ReadTimeout("x"), CutOff),
        (httpx.WriteError("x"), CutOff),
        (httpx.RemoteProtocolError("x"), CutOff),
    ],
)
async def test_errors_of_other_transports_are_not_sent_or_cut_off(
    error: Exception, outcome: type[Exception]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(outcome):
        await HttpClient(httpx.MockTransport(fail)).send(post("http://vendor/"), deadline=5)


async def test_a_deadline_without_the_sent_flag_is_cut_off() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(CutOff) as failure:
        await HttpClient(httpx.MockTransport(hang)).send(post("http://vendor/"), deadline=0.05)
    assert failure.value.kind == "timeout"


async def test_a_response_of_another_transport_is_read_the_same_way() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(201, json={"a": 1}))
    answer = await HttpClient(transport).send(post("http://vendor/"), deadline=5)
    assert (answer.status_code, answer.json(), answer.request.url.host) == (201, {"a": 1}, "vendor")


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_failed_exchange_frees_its_request_at_once(is_refused: bool) -> None:
    """Not by garbage collection, which may come much later: a request has up to 32 MiB."""
    async with serving(resets) as server, open_client() as client:
        url = f"http://127.0.0.1:{free_port() if is_refused else server.port}/"
        request = httpx.Request("POST", url, content=b"image")
        freed = weakref.ref(request)
        gc.disable()
        try:
            with contextlib.suppress(NotSent, CutOff):
                await client.send(request, deadline=5)
            del request
            await asyncio.sleep(0.05)
            assert freed() is None
        finally:
            gc.enable()
