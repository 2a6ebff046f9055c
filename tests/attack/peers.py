"""Servers the service calls, vendors and subscribers, that answer without end or with garbage."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import shutil
import socket
import zlib
from collections.abc import Callable

from tests.attack.arena import Arena, start_anew
from tests.attack.attack import Report, Skipped, attack
from tests.attack.origin import Answer, Asked, Origin, dreamto, origin, replies, response
from tests.harness.api_caller import Json, eventually, until

_MB = 1 << 20
#: Seconds of a flood that is observed.
_FLOOD = 6.0
#: Bytes that one exchange may take: limits of the client, and the buffers of two sockets.
_TAKEN = 12 * _MB
_HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_CHUNKED = _HEADERS + b"transfer-encoding: chunked\r\n\r\n"

#: What an answer begins with, and what is then repeated.
_FLOODS = {
    "interim responses": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 400),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 600),
    "headers": (_HEADERS, b"x: y\r\n" * 2700),
    "one header": (_HEADERS + b"x: ", b"y" * 16_384),
    "a chunk extension": (_CHUNKED + b"2;x=", b"e" * 16_384),
    "chunk extensions": (_CHUNKED, b"1;x=" + b"e" * 16_000 + b"\r\n \r\n"),
    "trailers": (_CHUNKED + b"2\r\n{}\r\n0\r\n", b"x: y\r\n" * 2700),
    "a body": (_HEADERS + b"content-length: 9999999999\r\n\r\n", b" " * 16_384),
    "a reason": (b"HTTP/1.1 200 ", b"r" * 16_384),
    "blank lines": (b"", b"\r\n" * 8192),
}


def _endless(peer: Callable[[], Origin], opening: bytes, piece: bytes) -> Answer:
    """Return an answer that goes on until the other side closes the connection."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(opening)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            peer().sent += len(piece)

    return answer


def _flood(name: str, opening: bytes, piece: bytes) -> None:
    async def run(arena: Arena, report: Report) -> None:
        async with origin() as subscriber:
            subscriber.answer = _endless(lambda: subscriber, opening, piece)
            await arena.api.subscribe(f"{subscriber.url}/hook", "job.*")
            async with arena.observed(latency=2.5):
                await arena.event()
                await asyncio.sleep(_FLOOD / 2)
                arena.vendor.answer = _endless(lambda: arena.vendor, opening, piece)
                await arena.submit()
                await asyncio.sleep(_FLOOD / 2)
            arena.vendor.answer = dreamto()
        for who, peer in (("subscriber", subscriber), ("vendor", arena.vendor)):
            report.check(bool(peer.asked), f"the {who} was not asked")
            each = peer.sent / max(1, len(peer.asked)) / _MB
            report.at_most(f"MB from the {who}", each, _TAKEN / _MB)

    attack(f"answers: {name} without end", timeout=60)(run)


for _name, (_opening, _piece) in _FLOODS.items():
    _flood(_name, _opening, _piece)


def nested_gzip(size: int = 512 * _MB, times: int = 2) -> bytes:
    """Return zeros, compressed several times."""
    packer = zlib.compressobj(1, wbits=31)
    data = b"".join([*(packer.compress(bytes(_MB)) for _ in range(size // _MB)), packer.flush()])
    for _ in range(times - 1):
        data = gzip.compress(data)
    return data


@attack("answers: nested gzip")
async def compressed(arena: Arena, report: Report) -> None:
    """Nothing that a vendor or subscriber sends is unpacked."""
    packed = await asyncio.to_thread(nested_gzip)
    bomb = replies(200, packed, content_encoding="gzip, gzip")
    async with origin(bomb) as subscriber:
        await arena.api.subscribe(f"{subscriber.url}/hook", "job.*")
        async with arena.observed():
            arena.vendor.answer = bomb
            await arena.submit()
            await arena.event()
            await subscriber.gets(1)
            await asyncio.sleep(1)
        arena.vendor.answer = dreamto()
    report.figures["kB sent"] = f"{len(packed) / 1e3:.1f}"


def _acceptances() -> dict[str, Callable[[bytes], bytes]]:
    def chunks(rest: bytes) -> Callable[[bytes], bytes]:
        return lambda body: _CHUNKED + b"%x\r\n%s\r\n" % (len(body), body) + rest

    return {
        "a header of 9 kB": lambda body: response(200, body, x_long="y" * 9000),
        "a header of 40 kB": lambda body: response(200, body, x_long="y" * 40_000),
        "200 headers": lambda body: response(200, body, **{f"x{n}": "y" for n in range(200)}),
        "a colon-less header": lambda body: response(200, body).replace(
            b"content-type", b"garbage\r\ncontent-type"
        ),
        "garbage behind": lambda body: response(200, body) + b"\x00garbage\r\n\r\n" * 3,
        "a bad chunk behind": chunks(b"zz\r\n\r\n"),
        "a bad trailer behind": chunks(b"0\r\n\x00\x01\r\n\r\n"),
        "a false encoding": lambda body: response(200, body, content_encoding="gzip"),
        "a false charset": lambda body: response(200, body, content_type="x/y; charset=nope"),
        "an odd reason": lambda body: response(200, body).replace(b"200 Status", b"200 \xff\xfe"),
        "no reason": lambda body: response(200, body).replace(b"200 Status", b"200"),
        "two lengths": lambda body: response(200, body).replace(
            b"content-length", b"content-length: 1\r\ncontent-length"
        ),
        "a false cookie": lambda body: response(200, body, set_cookie="=;;=,\x7f"),
    }


@attack("answers: a 2xx with garbage behind counts once", timeout=90)
async def accepted_with_garbage(arena: Arena, report: Report) -> None:
    """The status line decides a delivery: it is made once."""
    for name, written in _acceptances().items():
        async with origin() as subscriber:

            async def answer(
                _: Asked, writer: asyncio.StreamWriter, written: Callable[[bytes], bytes] = written
            ) -> None:
                writer.write(written(b"{}"))

            subscriber.answer = answer
            made = await arena.api.subscribe(f"{subscriber.url}/hook", "job.*")
            await arena.event()
            path = f"/v1/deliveries?subscriber={made['id']}"

            async def over(path: str = path) -> Json | None:
                rows = (await arena.api.get(path))["data"]
                return rows[0] if rows and rows[0]["tries"] else None

            row = await eventually(over, f"an attempt with {name}")
            report.check(
                row["status"] == "delivered", f"{name}: {row['status']}, {row['last_error']}"
            )
            await arena.api.call("DELETE", f"/v1/subscribers/{made['id']}")


#: Here the body cannot be known: the answer is lost, and looked up before anything is sent again.
_UNREADABLE = ("a colon-less header", "two lengths")


@attack("answers: a vendor's acceptance with garbage behind", timeout=90)
async def vendor_with_garbage(arena: Arena, report: Report) -> None:
    """A 2xx with a task id is an acceptance: nothing is sent twice."""
    for number, (name, written) in enumerate(_acceptances().items()):

        async def answer(
            asked: Asked,
            writer: asyncio.StreamWriter,
            written: Callable[[bytes], bytes] = written,
            number: int = number,
        ) -> None:
            body = json.dumps({"id": f"t{number}", "object": "job", "status": "processing"})
            writer.write(written(body.encode()))

        arena.vendor.answer, before = answer, len(arena.vendor.asked)
        job = await arena.submit()
        await until(lambda before=before: len(arena.vendor.asked) > before, "a request comes")  # type: ignore[misc]

        async def known(job_id: str = job["id"]) -> Json | None:
            found = await arena.api.job(job_id)
            return found if found["status"] not in ("queued", "submitting") else None

        try:
            found = await eventually(known, f"{name}: the job is submitted", 4)
        except AssertionError as error:
            report.check(name in _UNREADABLE, str(error))
            sent = len(arena.vendor.asked) - before
            report.check(sent == 1, f"{name}: sent {sent} times")
            continue
        report.check(found["vendor_task_id"] == f"t{number}", f"{name}: {found['status']}")


_SILENT_NAMESERVER = "127.9.9.9"


@attack("names: a server of names that never answers", bare=True, patient=True, timeout=120)
async def silent_names(arena: Arena, report: Report) -> None:
    """Look-ups are apart: who needs none is served at once."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        try:
            silent.bind((_SILENT_NAMESERVER, 53))
        except OSError as error:
            raise Skipped(f"port 53 of loopback: {error.strerror}") from None
        await _start_with_nameserver(arena)
        async with origin() as healthy, arena.observed():
            for number in range(12):
                await arena.api.subscribe(f"http://stalled-{number}.example/hook", "job.*")
            await arena.api.subscribe(f"http://localhost:{healthy.port}/hook", "job.*")
            begun = asyncio.get_running_loop().time()
            for _ in range(5):
                await arena.event()
            with contextlib.suppress(AssertionError):
                await healthy.gets(5, 30)
            report.check(len(healthy.asked) >= 5, f"{len(healthy.asked)} of 5 events came in 30 s")
            seconds = asyncio.get_running_loop().time() - begun
            report.at_most("healthy subscriber s", seconds, 8)
            begun, before = asyncio.get_running_loop().time(), arena.vendor.count("POST")
            await arena.submit()
            with contextlib.suppress(AssertionError):
                await until(lambda: arena.vendor.count("POST") > before, seconds=30)
            report.at_most("submission s", asyncio.get_running_loop().time() - begun, 5)


async def _start_with_nameserver(arena: Arena) -> None:
    """Start the service where /etc/resolv.conf names the silent server."""
    if shutil.which("unshare") is None:
        raise Skipped("the command unshare is missing")
    config = arena.folder / "resolv.conf"
    config.write_text(f"nameserver {_SILENT_NAMESERVER}\noptions timeout:12 attempts:1\n")
    script = f'mount --bind {config} /etc/resolv.conf && exec "$@"'
    probe = await asyncio.create_subprocess_exec("unshare", "-rm", "sh", "-c", script, "sh", "true")
    if await probe.wait():
        raise Skipped("mount namespaces are not allowed")
    with arena.service.log.open("ab") as log:
        prefix = ("unshare", "-rm", "sh", "-c", script, "sh")
        await start_anew(arena.service, *prefix, stderr=log)
    await arena.service.ready(arena.api.http)
