"""Request heads, trailers and chunk extensions without end, and what the limits are."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.wire import connected, exchange, head
from tests.harness.api_caller import KEY

#: Bytes an attacker would send, if it could.
_VOLUME = 64 << 20
#: Seconds of silence after which the connection must be over.
_PATIENCE = 15.0
_OPEN = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
_CHUNKED = head(
    "POST", "/v1/jobs", "content-type: application/json", "transfer-encoding: chunked", key=KEY
)


def _small_headers() -> Iterator[bytes]:
    for number in itertools.count():
        yield b"".join(b"x-%d-%d: v\r\n" % (number, each) for each in range(4000))


def _of(opening: bytes, piece: bytes) -> Iterator[bytes]:
    yield opening
    yield from itertools.repeat(piece)


def _headers() -> Iterator[bytes]:
    return itertools.chain([_OPEN], _small_headers())


def _equal_headers() -> Iterator[bytes]:
    return _of(_OPEN, b"a:\r\n" * 16_000)


def _cookie() -> Iterator[bytes]:
    return _of(_OPEN + b"cookie: ", b"a=b; " * 13_000)


def _header_name() -> Iterator[bytes]:
    return _of(_OPEN, b"n" * 65_536)


def _target() -> Iterator[bytes]:
    return _of(b"GET /healthz?", b"a=b&" * 16_000)


def _method() -> Iterator[bytes]:
    return _of(b"", b"G" * 65_536)


def _blank_lines() -> Iterator[bytes]:
    return _of(b"", b"\r\n" * 32_768)


def _folded() -> Iterator[bytes]:
    return _of(_OPEN + b"a: b\r\n", b" folded\r\n" * 7000)


def _trailers() -> Iterator[bytes]:
    return itertools.chain([_CHUNKED, b"2\r\n{}\r\n0\r\n"], _small_headers())


def _one_trailer() -> Iterator[bytes]:
    return _of(_CHUNKED + b"2\r\n{}\r\n0\r\nx: ", b"v" * 65_536)


def _extension() -> Iterator[bytes]:
    return _of(_CHUNKED + b"2;x=", b"e" * 65_536)


def _extensions() -> Iterator[bytes]:
    return _of(_CHUNKED, b"1;x=" + b"e" * 16_000 + b"\r\n \r\n")


def _zeros() -> Iterator[bytes]:
    return _of(_CHUNKED, b"0" * 65_536)


_FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "small headers": _headers,
    "equal headers": _equal_headers,
    "one cookie": _cookie,
    "a header's name": _header_name,
    "folded lines": _folded,
    "the target": _target,
    "the method": _method,
    "blank lines": _blank_lines,
    "trailers": _trailers,
    "one trailer": _one_trailer,
    "a chunk extension": _extension,
    "chunk extensions": _extensions,
    "a chunk's size": _zeros,
}


def _flood(name: str, pieces: Callable[[], Iterator[bytes]], *, idle: bool) -> None:
    async def run(arena: Arena, report: Report) -> None:
        async with arena.observed(memory=60), connected(arena.port) as wire:
            for piece in pieces():
                if not await wire.send(piece) or wire.sent > _VOLUME:
                    break
                # A send that need not wait leaves no time to read the answer.
                await asyncio.sleep(0)
            refused = wire.status is not None or wire.closed
            await wire.ends(_PATIENCE)
        # What follows a refusal may be read and dropped for a moment, so that the answer arrives.
        report.figures["MB taken"] = f"{wire.sent >> 20}"
        report.check(refused or idle, "nothing is refused")
        # A reset may overtake the answer.
        report.check(wire.status in (None, 400, 401, 413, 414, 431), f"answered {wire.status}")
        report.check(wire.closed, "the connection stays open")

    attack(f"request: {name} without end", timeout=45)(run)


for _name, _pieces in _FLOODS.items():
    # Blank lines before a request are dropped; the deadline of the head ends them.
    _flood(_name, _pieces, idle=_pieces is _blank_lines)


@attack("request: heads at the limits")
async def limits(arena: Arena, report: Report) -> None:
    """64 KiB and 100 fields are taken, more is 431."""

    async def status(*lines: str, target: str = "/healthz") -> int | None:
        return (await exchange(arena.port, head("GET", target, *lines))).status

    few, many = [[f"x-{n}: v" for n in range(count)] for count in (95, 120)]
    found = {
        "95 fields": (await status(*few), 200),
        "120 fields": (await status(*many), 431),
        "one field of 15 KiB": (await status("x: " + "v" * 15_000), 200),
        "60 fields of 1,000 bytes": (
            await status(*(f"x-{n}: {'v' * 990}" for n in range(60))),
            200,
        ),
        "one field of 80 KiB": (await status("x: " + "v" * 80_000), 431),
        "90 fields of 1,000 bytes": (
            await status(*(f"x-{n}: {'v' * 1000}" for n in range(90))),
            431,
        ),
    }
    for name, (got, wanted) in found.items():
        report.check(got == wanted, f"{name}: {got}, not {wanted}")
    target = await status(target="/healthz?" + "a" * 80_000)
    report.check(target in (414, 431), f"a target of 80 KiB: {target}")


@attack("request: upgrades that are not taken")
async def upgrades(arena: Arena, report: Report) -> None:
    """The body is read and the request served, whatever the upgrade names."""
    job = await arena.submit()
    callback = await arena.taken(job["id"])
    order = b'{"account":"main","model":"m","input":{"prompt":"p"}}'
    push = b'{"id":"x","object":"job","status":"processing"}'
    headers = (
        ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAA"),
        ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
         "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("connection: Upgrade", "upgrade: TLS/1.0"),
        ("connection: keep-alive, Upgrade", "upgrade: foo/2, h2c"),
    )  # fmt: skip
    path = callback.removeprefix(arena.url)
    for lines in headers:
        for target, body, wanted, key in (("/v1/jobs", order, 202, KEY), (path, push, 200, "")):
            more = (*lines, "content-type: application/json", f"content-length: {len(body)}")
            for parts in ((body,), (body[:9], body[9:])):
                async with connected(arena.port) as wire:
                    await wire.send(head("POST", target, *more, key=key) + parts[0])
                    for part in parts[1:]:
                        await wire.ends(0.05)
                        await wire.send(part)
                    status = await wire.answered(5)
                what = "submission" if key else "push"
                report.check(status == wanted, f"{what} with {lines[1]}: {status}, not {wanted}")
