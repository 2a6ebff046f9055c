"""Bodies that stall, that are large, and that are dear to parse."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Sequence

import httpx

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.documents import DENSE, dense_job
from tests.attack.origin import Asked, dreamto, response
from tests.attack.wire import Wire, close, connect, head
from tests.harness.api_caller import KEY

#: Seconds that a stall lasts, longer than any deadline of it.
_STALL = 25.0
_MB = 1 << 20


async def _stall(arena: Arena, heads: Sequence[bytes], *, trickle: bool) -> int:
    """Open a connection for each head, send a byte of each body, and wait; return 503 answers.

    A connection that is closed is opened again, as an attacker does.
    """
    wires: list[Wire] = []
    refused, ends = 0, time.monotonic() + _STALL

    async def begin(data: bytes) -> Wire:
        wire = await connect(arena.port)
        await wire.send(data + b"{")
        return wire

    wires = [await begin(data) for data in heads]
    try:
        while time.monotonic() < ends:
            await asyncio.sleep(0.5)
            for number, wire in enumerate(wires):
                if wire.closed or wire.status is not None:
                    refused += wire.status == httpx.codes.SERVICE_UNAVAILABLE
                    close([wire])
                    wires[number] = await begin(heads[number])
                elif trickle:
                    await wire.send(b" ")
    finally:
        close(wires)
    return refused


def _submission(key: str) -> bytes:
    more = ("content-type: application/json", f"content-length: {_MB}")
    return head("POST", "/v1/jobs", *more, key=key)


@attack("bodies: one key announces many and sends a byte", timeout=90, patient=True)
async def stalled_submissions(arena: Arena, report: Report) -> None:
    """Submissions of other keys are taken meanwhile."""
    heads = [_submission(await arena.key("write"))] * 64
    async with arena.observed():
        report.figures["refused"] = str(await _stall(arena, heads, trickle=False))


@attack("bodies: one key trickles many", timeout=90, patient=True)
async def trickled_submissions(arena: Arena, report: Report) -> None:
    """A byte now and then is no progress."""
    heads = [_submission(await arena.key("write"))] * 64
    async with arena.observed():
        report.figures["refused"] = str(await _stall(arena, heads, trickle=True))


@attack("bodies: without a key", timeout=90, patient=True)
async def stalled_without_key(arena: Arena, report: Report) -> None:
    """An invalid key reserves nothing."""
    heads = [_submission("orc_" + "x" * 40)] * 64
    async with arena.observed():
        report.figures["refused"] = str(await _stall(arena, heads, trickle=False))


@attack("bodies: one callback token stalls many", timeout=90, patient=True)
async def stalled_pushes(arena: Arena, report: Report) -> None:
    """Pushes of other jobs are taken meanwhile."""
    jobs = [await arena.submit() for _ in range(2)]
    paths = [(await arena.taken(job["id"])).removeprefix(arena.url) for job in jobs]
    lines = ("content-type: application/json", f"content-length: {_MB}")
    answers: Counter[str] = Counter()

    async def push() -> None:
        while True:
            try:
                answer = await arena.api.http.post(
                    paths[1], json={"id": "x", "object": "job", "status": "processing"}
                )
                answers[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1
            await asyncio.sleep(0.2)

    pushing = asyncio.create_task(push())
    async with arena.observed():
        await _stall(arena, [head("POST", paths[0], *lines)] * 128, trickle=True)
    pushing.cancel()
    failed = answers.total() - answers["200"]
    report.at_most("pushes of others failed", failed, 0)
    report.check(answers["200"] > 20, f"only {answers['200']} pushes of others were answered")


def form(size: int) -> tuple[bytes, str]:
    """Return a multipart body with a file of this size, and its content type."""
    fields = {"account": "main", "kind": "image", "purpose": "reference"}
    parts = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    opening = 'content-disposition: form-data; name="file"; filename="a.png"'
    file = f"--b\r\n{opening}\r\ncontent-type: image/png\r\n\r\n"
    body = b"".join(("".join(parts).encode(), file.encode(), b"\x89" * size, b"\r\n--b--\r\n"))
    return body, "multipart/form-data; boundary=b"


@attack("uploads: 24 of 25 MiB beside a slow vendor", timeout=120)
async def large_uploads(arena: Arena, report: Report) -> None:
    """They are admitted by bytes."""
    plain = dreamto()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if "upload" in asked.path:
            await asyncio.sleep(4)
            writer.write(response(200, b'{"url":"https://example.com/a.png"}'))
        else:
            await plain(asked, writer)

    arena.vendor.answer = slow
    body, media_type = form(25 * _MB - 4096)
    answers: Counter[int] = Counter()
    key = await arena.key("write")
    headers = {"content-type": media_type, "authorization": f"Bearer {key}"}

    async def upload() -> None:
        async with httpx.AsyncClient(base_url=arena.url, timeout=60, trust_env=False) as http:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.post("/v1/files/upload", content=body, headers=headers)
                answers[answer.status_code] += 1

    async with arena.observed(memory=320, latency=3.0), asyncio.TaskGroup() as uploads:
        for _ in range(24):
            uploads.create_task(upload())
    report.figures["answers"] = " ".join(f"{n}x{status}" for status, n in sorted(answers.items()))
    report.check(answers[200] > 0, "none was forwarded")
    report.check(answers.keys() <= {200, 429, 503}, f"answers: {dict(answers)}")


@attack("uploads: one key stalls many", timeout=90, patient=True)
async def stalled_uploads(arena: Arena, report: Report) -> None:
    """An upload of another key is forwarded meanwhile."""
    key, body = await arena.key("write"), form(1000)
    lines = (f"content-type: {body[1]}", f"content-length: {25 * _MB}")
    stalling = asyncio.create_task(
        _stall(arena, [head("POST", "/v1/files/upload", *lines, key=key)] * 48, trickle=True)
    )
    answers: Counter[int] = Counter()
    async with arena.observed():
        for _ in range(10):
            await asyncio.sleep(1.5)
            headers = {"content-type": body[1], "authorization": f"Bearer {KEY}"}
            answer = await arena.api.http.post("/v1/files/upload", content=body[0], headers=headers)
            answers[answer.status_code] += 1
        await stalling
    report.at_most("uploads of others failed", answers.total() - answers[200], 0)


@attack("bodies: dense documents block nothing", timeout=120)
async def dense_bodies(arena: Arena, report: Report) -> None:
    """A body of 1 MiB holds the loop up for less than 50 ms; a busy machine gets 200."""
    headers = {"content-type": "application/json"}
    async with arena.observed(memory=250) as observer:
        worst: dict[str, float] = {}
        for kind in DENSE:
            body, found = dense_job(kind), []
            for _ in range(3):
                await asyncio.sleep(0.05)
                await observer.figures()
                await arena.api.http.post("/v1/jobs", content=body, headers=headers)
                found.append((await observer.figures())["latency"])
            worst[kind] = min(found)
    slowest = max(worst, key=lambda kind: worst[kind])
    report.figures["slowest"] = slowest
    report.at_most("worst ms", 1000 * worst[slowest], 200)
    report.figures["median ms"] = f"{1000 * statistics.median(worst.values()):.0f}"


@attack("bodies: dense pushes block nothing", timeout=120)
async def dense_pushes(arena: Arena, report: Report) -> None:
    """The same for pushes, which need no key."""
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    async with arena.observed(memory=250) as observer:
        worst: dict[str, float] = {}
        for kind, text in DENSE.items():
            body = f'{{"id":"x","status":"processing","x":{text}}}'.encode()
            found = []
            for _ in range(3):
                await asyncio.sleep(0.05)
                await observer.figures()
                answer = await arena.api.http.post(path, content=body)
                report.check(answer.status_code < 500, f"{kind}: {answer.status_code}")
                found.append((await observer.figures())["latency"])
            worst[kind] = min(found)
    slowest = max(worst, key=lambda kind: worst[kind])
    report.figures["slowest"] = slowest
    report.at_most("worst ms", 1000 * worst[slowest], 200)
