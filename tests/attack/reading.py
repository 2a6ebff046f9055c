"""Reads that cost memory: pages of large jobs, long polls, unread streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

import httpx

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.documents import dense_job
from tests.attack.wire import Wire, close, connect, head
from tests.harness.api_caller import KEY

_JSON = {"content-type": "application/json"}


async def _dense_jobs(arena: Arena, count: int) -> list[str]:
    """Submit jobs of almost 1 MiB."""
    ids = []
    for _ in range(count):
        answer = await arena.api.http.post("/v1/jobs", content=dense_job(), headers=_JSON)
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text[:200]
        ids.append(answer.json()["id"])
    return ids


async def _read(arena: Arena, path: str, key: str, **headers: str) -> int:
    """Read a whole answer and drop it; return its bytes."""
    size = 0
    auth = {"authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=arena.url, timeout=60, trust_env=False) as http,
        http.stream("GET", path, headers={**auth, **headers}) as answer,
    ):
        async for chunk in answer.aiter_raw():
            size += len(chunk)
    return size


@attack("pages: of dense jobs", timeout=400)
async def dense_pages(arena: Arena, report: Report) -> None:
    """Pages are bounded by bytes, also eight at once, and of every list."""
    await _dense_jobs(arena, 40)
    key = await arena.key("read")
    async with arena.observed(memory=300, latency=2.0):
        sizes = await asyncio.gather(*(_read(arena, "/v1/jobs?limit=200", key) for _ in range(8)))
        await asyncio.gather(*(_read(arena, "/v1/events?limit=200", key) for _ in range(4)))
    report.figures["MB a page"] = f"{max(sizes) / 1e6:.0f}"


@attack("pages: every job can still be listed", timeout=150)
async def whole_list(arena: Arena, report: Report) -> None:
    """Short pages lose nothing."""
    made = {*await _dense_jobs(arena, 12), *[(await arena.submit())["id"] for _ in range(20)]}
    seen: list[str] = []
    after, pages = "", 0
    while pages < 50:
        page = await arena.api.get(f"/v1/jobs?limit=200{after}")
        pages += 1
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next_cursor']}"
    report.figures["pages"] = str(pages)
    report.check({*seen} == made, f"{len({*seen})} of {len(made)} jobs were listed")
    report.check(len(seen) == len({*seen}), "a job was listed twice")


@attack("long polls: 60 on one dense job", timeout=150)
async def dense_long_polls(arena: Arena, report: Report) -> None:
    """A version is compared before a row is read."""
    (job,) = await _dense_jobs(arena, 1)
    await arena.taken(job)
    key = await arena.key("read")
    path = f"/v1/jobs/{job}"
    etag = (await arena.api.call("GET", path)).headers["etag"]
    async with arena.observed(memory=300, latency=2.0):
        ends = time.monotonic() + 10
        waiting = [
            asyncio.create_task(
                _read(arena, path, key, **{"prefer": "wait=10", "if-none-match": etag})
            )
            for _ in range(60)
        ]
        await asyncio.sleep(1)
        while time.monotonic() < ends:
            # Other jobs move all the time.
            await arena.event()
            await asyncio.sleep(0.05)
        await asyncio.gather(*waiting, return_exceptions=True)
    report.check(True, "")


@attack("streams: one key opens 1,000 and reads none", timeout=150)
async def unread_streams(arena: Arena, report: Report) -> None:
    """Slow readers are dropped, and other keys still wait and stream."""
    key = await arena.key("read")
    ids = await _dense_jobs(arena, 6)
    wires: list[Wire] = []
    try:
        async with arena.observed(memory=300, latency=3.0):
            request = head("GET", "/v1/events/stream?types=job.*", key=key)
            for _ in range(1000):
                with contextlib.suppress(OSError):
                    wire = await connect(arena.port, reads=False)
                    wires.append(wire)
                    await wire.send(request)
            await asyncio.sleep(1)
            polls = await _other_polls(arena)
            for each in ids:
                await arena.api.call("POST", f"/v1/jobs/{each}/cancel")
            await asyncio.sleep(3)
            polls += await _other_polls(arena)
        report.at_most("long polls of others failed", polls.total() - polls[200], 0)
    finally:
        close(wires)


async def _other_polls(arena: Arena) -> Counter[int]:
    answers = await asyncio.gather(
        *(arena.api.call("GET", "/v1/events?wait=1&limit=1") for _ in range(5))
    )
    return Counter(answer.status_code for answer in answers)


@attack("long polls: one key takes every place", timeout=90)
async def long_poll_places(arena: Arena, report: Report) -> None:
    """A share of the places is left to other keys."""
    key = await arena.key("read")
    request = head("GET", "/v1/events?wait=20", key=key)
    wires: list[Wire] = []
    try:
        async with arena.observed(memory=200, latency=3.0):
            for _ in range(1200):
                with contextlib.suppress(OSError):
                    wire = await connect(arena.port)
                    wires.append(wire)
                    await wire.send(request)
            await asyncio.sleep(1)
            polls = await _other_polls(arena)
        report.at_most("long polls of others failed", polls.total() - polls[200], 0)
    finally:
        close(wires)


@attack("long polls: a minute ends before a proxy's does", timeout=90, patient=True)
async def longest_wait(arena: Arena, report: Report) -> None:
    """`wait=60` is answered before a proxy with a timeout of 60 s gives up."""
    job = await arena.submit()
    await arena.taken(job["id"])
    etag = (await arena.api.call("GET", f"/v1/jobs/{job['id']}")).headers["etag"]

    async def seconds(path: str, **headers: str) -> float:
        begun = time.monotonic()
        await _read(arena, path, KEY, **headers)
        return time.monotonic() - begun

    version = {"prefer": "wait=60", "if-none-match": etag}
    found = await asyncio.gather(
        seconds("/v1/events?wait=60"), seconds(f"/v1/jobs/{job['id']}", **version)
    )
    report.at_most("longest s", max(found), 58)
    report.check(min(found) > 20, f"a wait ended after {min(found):.1f} s")
