"""The database taken away, locked or replaced; a vendor's answers that cannot be stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import time
from pathlib import Path

import httpx

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.commands import run
from tests.attack.origin import dreamto, replies
from tests.attack.request_bodies import form
from tests.harness.api_caller import KEY, eventually, until

_ORDER = {"account": "main", "model": "m", "input": {"prompt": "p"}}


def _files(arena: Arena) -> list[Path]:
    return [arena.folder / f"jobs.db{suffix}" for suffix in ("", "-wal", "-shm")]


async def _status(arena: Arena, method: str, path: str, body: object = None) -> int:
    with contextlib.suppress(httpx.TransportError):
        return (await arena.api.call(method, path, body)).status_code
    return 0


def _lost_file(name: str, take: str) -> None:
    async def lose(arena: Arena, report: Report) -> None:
        await arena.submit()
        if take == "folder":
            arena.folder.rename(moved := arena.folder.with_name(arena.folder.name + "-moved"))
        for file in _files(arena) if take != "folder" else ():
            if take == "delete":
                file.unlink(missing_ok=True)
            elif file.exists():
                file.rename(file.with_name(f"moved-{file.name}"))
        if take == "replace":
            sqlite3.connect(arena.folder / "jobs.db").close()
            (arena.folder / "jobs.db").touch()
        try:
            statuses = [await _status(arena, "POST", "/v1/jobs", _ORDER) for _ in range(5)]
            report.figures["submissions"] = " ".join(map(str, statuses))
            report.check(202 not in statuses, "a submission is acknowledged")

            async def unready() -> bool:
                return await _status(arena, "GET", "/readyz") == 503

            with contextlib.suppress(AssertionError):
                await eventually(unready, seconds=5)
            report.check(await unready(), "/readyz stays 200")
            report.check(await _status(arena, "GET", "/healthz") == 200, "/healthz is not 200")
            if take != "folder":
                database = arena.service.database
                env = {
                    "ORCHESTRATOR_DATABASE_URL": database, "ORCHESTRATOR_PORT": str(arena.port),
                    "ORCHESTRATOR_API_KEYS": f'["{KEY}"]',
                }  # fmt: skip
                ran = await run(arena.folder, "doctor", env=env)
                report.check(ran.code == 9, f"doctor: exit {ran.code}")
        finally:
            if take == "folder":
                moved.rename(arena.folder)
            # It is not ready afterwards, by right.
            await arena.service.stop(signal.SIGKILL)

    attack(f"database: its file is {name}", timeout=60)(lose)


_lost_file("deleted", "delete")
_lost_file("renamed", "rename")
_lost_file("replaced", "replace")
_lost_file("in a renamed folder", "folder")


@attack("database: another program holds its lock")
async def locked(arena: Arena, report: Report) -> None:
    """The loop does not wait for it; what cannot be written is 503 or late, and reads go on."""
    await arena.submit()
    async with arena.observed(latency=1.0, others=8) as observer:
        await observer.figures()
        other = sqlite3.connect(arena.folder / "jobs.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            ends = time.monotonic() + 4
            while time.monotonic() < ends:
                report.check(await _status(arena, "GET", "/v1/jobs?limit=1") == 200, "no reads")
                await asyncio.sleep(0.2)
            other.execute("ROLLBACK")
        finally:
            other.close()
    await arena.submit()


_UNSTORABLE = (
    b'{"id":"\\ud83d","url":"https://example.com/\\udc00"}',
    b'{"id":"\\u0000","url":"https://example.com/a\\u0000"}',
    b'{"id":1e999,"x":-1e999}',
    b'{"id":' + b"9" * 5000 + b"}",
    b'{"id":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"id":NaN,"x":Infinity}',
    b'"\xed\xa0\x80"',
    b'{"\\ud83d":"name"}',
    b'{"a":1,"a":2}',
    b"",
    b"null",
    b"\xef\xbb\xbf{}",
)


@attack("vendor: an upload's answer that cannot be shown")
async def unstorable_upload(arena: Arena, report: Report) -> None:
    """It is a 502, or the answer; never a 500."""
    body, media_type = form(1000)
    for answer in _UNSTORABLE:
        for status in (200, 201, 400, 500):
            arena.vendor.answer = replies(status, answer)
            got = await arena.api.http.post(
                "/v1/files/upload", content=body, headers={"content-type": media_type}
            )
            report.check(
                got.status_code in (200, 201, 502), f"{got.status_code} for {answer[:20]!r}"
            )
            with contextlib.suppress(ValueError):
                json.loads(got.content)
                continue
            report.broken.append(f"not JSON for {answer[:20]!r}")


_SHAPES = (
    b'{"id":%s,"object":"job","status":"processing"}',
    b'{"id":"t","object":"job","status":%s}',
    b'{"id":"t","object":"job","status":"failed","error":{"code":%s,"message":%s}}',
    b'{"id":"t","object":"job","status":"succeeded","output":{"videos":[{"url":%s}]}}',
)
_VALUES = (
    b'"\\ud83d\\u0000"', b"9" * 400, b"1e999", b'"' + b"\\u0000" * 50 + b'"', b"[[]]",
    b'{"\\ud83d":1}', b'"' + b"x" * 300_000 + b'"', b"-0", b"true",
)  # fmt: skip


@attack("vendor: a job's answers that cannot be stored", timeout=90)
async def unstorable_job(arena: Arena, report: Report) -> None:
    """The job and every list stay readable, and a push of the same is no 500."""
    for body in (shape.replace(b"%s", text) for shape in _SHAPES for text in _VALUES):
        arena.vendor.answer, before = replies(200, body), len(arena.vendor.asked)
        job = await arena.submit()
        with contextlib.suppress(AssertionError):
            await until(lambda before=before: len(arena.vendor.asked) > before, seconds=5)  # type: ignore[misc]
        push = await arena.api.http.post(arena.callback_path(job["id"]), content=body)
        report.check(push.status_code < 500, f"a push of {body[:50]!r}: {push.status_code}")
        for path in ("", "/timeline"):
            status = await _status(arena, "GET", f"/v1/jobs/{job['id']}{path}")
            report.check(status == 200, f"GET .../{path} after {body[:50]!r}: {status}")
    for path in ("/v1/jobs?limit=200", "/v1/events?limit=200"):
        report.check(await _status(arena, "GET", path) == 200, f"{path} fails")
    arena.vendor.answer = dreamto()
