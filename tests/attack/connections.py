"""Connections that are idle, half closed or of an old version; signals; a log without a reader."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket

import httpx

from tests.attack.arena import Arena, start_anew, stopped
from tests.attack.attack import Report, Skipped, attack
from tests.attack.wire import Wire, close, connect, connected, exchange, head
from tests.harness.api_caller import KEY, until

#: Open files that a service has in the attack on them.
_FILES = 256
#: Seconds for a head, and a margin.
_HEAD_DEADLINE = 15.0


@attack("connections: idle and half a head", patient=True, ATTACK_FILES=str(_FILES))
async def idle(arena: Arena, report: Report) -> None:
    """More connections than open files. Others are served, and the heads have a deadline."""
    wires: list[Wire] = []
    try:
        async with arena.observed():
            for number in range(2 * _FILES):
                with contextlib.suppress(OSError):
                    wire = await connect(arena.port)
                    wires.append(wire)
                    if number % 2:
                        await wire.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ")
            await asyncio.sleep(_HEAD_DEADLINE)
        halves = [wire for wire in wires if wire.sent]
        report.at_most("half heads open after 15 s", sum(not w.closed for w in halves), 0)
    finally:
        close(wires)


@attack("connections: heads byte by byte", patient=True)
async def trickled(arena: Arena, report: Report) -> None:
    """A head has one deadline, however steadily it grows."""
    wires = [await connect(arena.port) for _ in range(20)]
    try:
        async with arena.observed():
            for wire in wires:
                await wire.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ")
            for _ in range(int(_HEAD_DEADLINE)):
                await asyncio.sleep(1)
                for wire in wires:
                    await wire.send(b"a")
        report.at_most("open after 15 s", sum(not wire.closed for wire in wires), 0)
    finally:
        close(wires)


@attack("connections: kept, then half a second head", patient=True)
async def second_head(arena: Arena, report: Report) -> None:
    """The deadline holds for every request of a connection."""
    async with connected(arena.port) as wire:
        await wire.send(head("GET", "/healthz"))
        report.check(await wire.answered() == httpx.codes.OK, "the first request is not served")
        await wire.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ")
        report.check(await wire.ends(_HEAD_DEADLINE), "the second head is waited for")


@attack("connections: many requests at once, no answer read")
async def pipelined(arena: Arena, report: Report) -> None:
    """What is not read is not computed ahead without limit."""
    request = head("GET", "/openapi.json")
    async with arena.observed(memory=100, latency=3.0):
        wires = [await connect(arena.port, reads=False) for _ in range(20)]
        try:
            async with asyncio.timeout(5):
                await asyncio.gather(*(wire.send(request * 2000) for wire in wires))
        except TimeoutError:
            pass
        finally:
            close(wires)
    report.check(True, "")


@attack("connections: a half-closed client is answered")
async def half_closed(arena: Arena, report: Report) -> None:
    """A client that shuts its writing side after a submission gets the answer."""
    body = b'{"account":"main","model":"m","input":{"prompt":"p"}}'
    lines = ("content-type: application/json", f"content-length: {len(body)}")
    whole = head("POST", "/v1/jobs", *lines, key=KEY) + body
    for name, data, wanted in (
        ("submission", whole, 202),
        ("read", head("GET", "/v1/jobs", key=KEY), 200),
    ):
        async with connected(arena.port) as wire:
            await wire.send(data)
            wire.writer.write_eof()
            status = await wire.answered(5)
            report.check(status == wanted, f"{name}: {status}, not {wanted}")
            report.check(await wire.ends(10), f"{name}: the connection stays open")


@attack("connections: a half-closed long poll is answered")
async def half_closed_poll(arena: Arena, report: Report) -> None:
    """The same for an answer that takes a while."""
    job = await arena.submit()
    await arena.taken(job["id"])
    async with connected(arena.port) as wire:
        await wire.send(head("GET", f"/v1/jobs/{job['id']}", "prefer: wait=1", key=KEY))
        wire.writer.write_eof()
        report.check(await wire.answered(6) == httpx.codes.OK, f"answered {wire.status}")


@attack("connections: HTTP/1.0 gets a stream without chunks")
async def old_version(arena: Arena, report: Report) -> None:
    """The end of the connection ends the stream."""
    job = await arena.event()
    request = f"GET /v1/events/stream?types=job.* HTTP/1.0\r\nauthorization: Bearer {KEY}\r\n\r\n"
    async with connected(arena.port) as wire:
        await wire.send(request.encode())
        await wire.answered()
        await arena.event()
        with contextlib.suppress(AssertionError):
            await until(lambda: b"data:" in wire.received, seconds=5)
        received, _, body = wire.received.partition(b"\r\n\r\n")
    report.check(b"transfer-encoding" not in received.lower(), "the answer is chunked")
    report.check(b"data:" in body, "no event comes")
    sizes = re.findall(rb"(?m)^[0-9a-f]{1,8}\r$", body)
    report.check(not sizes, f"sizes of chunks are in the body of {job['id']}'s stream")


@attack("signals: SIGHUP")
async def hangup(arena: Arena, report: Report) -> None:
    """It reloads, or is ignored; it does not end the service."""
    for _ in range(3):
        arena.child.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
    report.check(arena.child.returncode is None, "the service ended")


async def _cause_lines(arena: Arena, count: int) -> None:
    """Send pushes that are rejected: each is logged."""
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    async with httpx.AsyncClient(base_url=arena.url, timeout=5, trust_env=False) as http:
        for begun in range(0, count, 20):
            async with asyncio.TaskGroup() as pushes:
                for _ in range(begun, min(count, begun + 20)):
                    pushes.create_task(http.post(path, content=b"not json " + b"x" * 200))


@attack("log: its reader stands still", bare=True, timeout=90)
async def stalled_log(arena: Arena, report: Report) -> None:
    """A full pipe blocks nothing, SIGTERM included."""
    reading, writing = os.pipe()
    try:
        await start_anew(arena.service, stderr=writing)
        os.close(writing)
        await arena.service.ready(arena.api.http)
        async with arena.observed():
            with contextlib.suppress(httpx.HTTPError, ExceptionGroup):
                await _cause_lines(arena, 1500)
        seconds = await stopped(arena.child, signal.SIGTERM)
        report.check(seconds is not None, "SIGTERM does not end it within 25 s")
        if seconds is not None:
            report.figures["SIGTERM s"] = f"{seconds:.1f}"
            arena.service.child = None
    finally:
        os.close(reading)


@attack("log: a full disk", bare=True, timeout=90)
async def full_log(arena: Arena, report: Report) -> None:
    """A log that cannot be written does not end the service."""
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230 - a device
        await start_anew(arena.service, stderr=full)
    try:
        await arena.service.ready(arena.api.http, 40)
        await _cause_lines(arena, 50)
    except AssertionError as error:
        report.broken.append(str(error))


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@attack("host: all addresses of both families", bare=True)
async def both_families(arena: Arena, report: Report) -> None:
    """`--host ::` is reachable by IPv4 and IPv6, and where the service says it is."""
    if not _has_ipv6():
        raise Skipped("this machine has no IPv6")
    await arena.service.start(ORCHESTRATOR_HOST="::", ORCHESTRATOR_PUBLIC_URL="")
    for host in ("::1", "127.0.0.1"):
        with contextlib.suppress(AssertionError):
            await until(lambda: "orchestrator on" in arena.log, seconds=20)
        status = None
        for _ in range(50):
            with contextlib.suppress(OSError):
                status = (await exchange(arena.port, head("GET", "/healthz"), host=host)).status
                break
            await asyncio.sleep(0.05)
        report.check(status == httpx.codes.OK, f"{host}: {status}")
    announced = re.search(r"orchestrator on (http\S+)", arena.log)
    report.check(announced is not None, "nothing is announced")
    if announced:
        with contextlib.suppress(httpx.HTTPError):
            answer = await arena.api.http.get(f"{announced[1]}/healthz")
            report.check(answer.status_code == httpx.codes.OK, f"{announced[1]} is not reachable")
            return
        report.broken.append(f"{announced[1]} is announced and not reachable")
