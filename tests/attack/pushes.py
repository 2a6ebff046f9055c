"""Pushes with a good token that are unreadable, odd or many."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from urllib.parse import urlencode

import httpx

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.wire import exchange, head
from tests.harness.api_caller import until

_PUSHES = 1500


@attack("pushes: many unreadable ones with one token", timeout=120)
async def unreadable(arena: Arena, report: Report) -> None:
    """They cost the vendor one status query, not one each."""
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    answers: Counter[int] = Counter()

    async def push(number: int) -> None:
        body = json.dumps({"what": number}).encode() if number % 2 else b"not json %d" % number
        answer = await arena.api.http.post(path, content=body)
        answers[answer.status_code] += 1

    begun = time.monotonic()
    async with arena.observed():
        for first in range(0, _PUSHES, 25):
            await asyncio.gather(*(push(number) for number in range(first, first + 25)))
        await asyncio.sleep(2)
    report.figures["pushes"] = " ".join(f"{n}x{status}" for status, n in sorted(answers.items()))
    report.figures["over s"] = f"{time.monotonic() - begun:.1f}"
    report.at_most("status queries", arena.vendor.count("GET"), 6)


_UNREADABLE: dict[str, tuple[str, bytes]] = {
    "Latin-1 JSON": ("application/json; charset=latin-1", '{"id":"é"}'.encode("latin-1")),
    "a form": ("application/x-www-form-urlencoded", urlencode({"id": "x", "status": "y"}).encode()),
    "an empty body": ("application/json", b""),
    "text": ("text/plain", b"it is done"),
    "a list": ("application/json", b"[1,2,3]"),
    "null": ("application/json", b"null"),
    "half a body": ("application/json", b'{"id": "x", "sta'),
    "a byte order mark": ("application/json", b"\xff\xfe{\x00}\x00"),
    "XML": ("application/xml", b"<job><id>1</id></job>"),
    "NaN": ("application/json", b'{"id": NaN}'),
    "deep nesting": ("application/json", b"[" * 5000 + b"]" * 5000),
}


@attack("pushes: unreadable ones are kept, and the vendor is queried", timeout=90)
async def unreadable_kinds(arena: Arena, report: Report) -> None:
    """An answer of 200 or 400, an entry of the timeline, and a status query at once."""
    for name, (media_type, body) in _UNREADABLE.items():
        job = await arena.submit()
        path = (await arena.taken(job["id"])).removeprefix(arena.url)
        task = (await arena.api.job(job["id"]))["vendor_task_id"]
        headers = {"content-type": media_type}
        answer = await arena.api.http.post(path, content=body, headers=headers)
        report.check(answer.status_code in (200, 400), f"{name}: {answer.status_code}")
        entries = await arena.api.timeline(job["id"], "push")
        report.check(len(entries) == 1, f"{name}: {len(entries)} pushes in the timeline")
        try:
            await until(lambda task=task: arena.vendor.count("GET", task), seconds=4)  # type: ignore[misc]
        except AssertionError:
            report.broken.append(f"{name}: the vendor is not queried within 4 s")


@attack("pushes: a slash behind the URL")
async def trailing_slash(arena: Arena, report: Report) -> None:
    """It is the same URL; a wrong token stays a 404."""
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    body = {"id": "x", "object": "job", "status": "processing"}
    for target, wanted in (
        (path + "/", 200),
        (path + "/?a=b", 200),
        (path + "?a=b", 200),
        (path[:-2] + "xx/", 404),
        (path + "/x", 404),
    ):
        answer = await arena.api.http.post(target, json=body)
        shown = "/" + target.split("/")[-1][-4:]
        report.check(
            answer.status_code == wanted, f"...{shown}: {answer.status_code}, not {wanted}"
        )
    answer = await arena.api.http.get(path + "/")
    report.check(answer.status_code == httpx.codes.METHOD_NOT_ALLOWED, f"GET {answer.status_code}")


@attack("pushes: forged ones learn nothing")
async def forged(arena: Arena, report: Report) -> None:
    """Every wrong token and account has the same answer."""
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    token = path.split("/")[-1]
    targets = {
        "unknown account": f"/callbacks/other/{token}",
        "changed token": f"/callbacks/main/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        "empty token": "/callbacks/main/.",
        "long token": f"/callbacks/main/{token}{'a' * 3000}",
        "percent-encoded": f"/callbacks/main/%00{token}",
    }
    bodies = set()
    for name, target in targets.items():
        data = head("POST", target, "content-length: 2", "x-request-id: same") + b"{}"
        wire = await exchange(arena.port, data)
        report.check(wire.status == httpx.codes.NOT_FOUND, f"{name}: {wire.status}")
        bodies.add(wire.received.partition(b"\r\n\r\n")[2])
    report.check(len(bodies) == 1, "the answers differ")
