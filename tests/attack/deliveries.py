"""Subscribers: what one may do to another, and what a rest means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter

import httpx

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.commands import run
from tests.attack.origin import Asked, origin, replies, response
from tests.harness.api_caller import KEY, Json, eventually, until

#: Subscribers that a key may have; more are refused.
_LIMIT = 1000
_BIDI = "\u202e\u2066\u200f\u061c"


async def _attempted(arena: Arena, subscriber: str) -> None:
    """Wait until every delivery to a subscriber has had an attempt."""

    async def over() -> bool:
        rows = (await arena.api.get(f"/v1/deliveries?subscriber={subscriber}"))["data"]
        return all(row["tries"] for row in rows)

    await eventually(over, "each delivery has had an attempt")


@attack("subscribers: a new URL does not inherit credentials")
async def moved(arena: Arena, report: Report) -> None:
    """Headers and credentials stay with the origin that they were given for."""
    secret = "Bearer subscriber-secret-0123456789"
    async with origin() as first, origin() as second:
        headers = {"authorization": secret, "x-api-token": secret}
        made = await arena.api.subscribe(f"{first.url}/hook", "job.*", headers=headers)
        path = f"/v1/subscribers/{made['id']}"
        await arena.api.call("POST", f"{path}/test")
        await first.gets(1)
        report.check(secret in first.asked[0].headers.values(), "the header is not sent at all")
        key = await arena.key("write")
        auth = {"authorization": f"Bearer {key}"}
        for host in ("127.0.0.1", "127.0.0.2", "localhost"):
            url = f"http://{host}:{second.port}/hook"
            await arena.api.http.patch(path, json={"url": url}, headers=auth)
            answer = await arena.api.http.post(f"{path}/test", headers=auth)
            if answer.is_success:
                await _attempted(arena, made["id"])
            leaked = [each for each in second.asked if secret in each.headers.values()]
            report.check(not leaked, f"sent to {host}:{second.port}")
        moved = await arena.api.subscribe(f"{first.url}/a", "job.*", headers=headers)
        path = f"/v1/subscribers/{moved['id']}"
        await arena.api.http.patch(path, json={"url": f"{first.url}/b"})
        await arena.api.call("POST", f"{path}/test")
        await until(lambda: first.count("POST", "/b"), "the new path is called")
        kept = secret in first.asked[-1].headers.values()
        report.check(kept, "a new path at the same origin lost its header")


@attack("subscribers: a rest belongs to one address")
async def resting_host(arena: Arena, report: Report) -> None:
    """`Retry-After` of one callback URL does not hold up another on the same host."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        status = 429 if asked.path.startswith("/resting") else 204
        writer.write(response(status, b"", retry_after="3600"))

    async with origin(answer) as host:
        await arena.event(callback_url=f"{host.url}/resting")
        await until(lambda: host.count("POST", "/resting"), "the first is called")
        for name in ("well", "well?other=1"):
            await arena.event(callback_url=f"{host.url}/{name}")
            try:
                await until(lambda name=name: host.count("POST", f"/{name}"), seconds=8)  # type: ignore[misc]
            except AssertionError:
                report.broken.append(f"/{name} waits with /resting")


@attack("deliveries: a retry while the subscriber rests")
async def retry_at_rest(arena: Arena, report: Report) -> None:
    """It is an attempt now, or says why and until when not."""
    async with origin(replies(429, b"", retry_after="3600")) as resting:
        await arena.api.subscribe(f"{resting.url}/hook", "job.*")
        await arena.event()
        await resting.gets(1)
        row: Json = (await arena.api.get("/v1/deliveries"))["data"][0]
        answer = await arena.api.call("POST", f"/v1/deliveries/{row['id']}/retry")
        report.figures["answer"] = str(answer.status_code)
        with contextlib.suppress(AssertionError):
            await until(lambda: len(resting.asked) > 1, seconds=5)
        report.check(
            len(resting.asked) > 1 or answer.status_code != httpx.codes.ACCEPTED,
            "accepted, and nothing happens",
        )


_OURS = (
    "Webhook_Signature", "webhook-signature", "WEBHOOK_ID", "webhook.timestamp", "webhook-id",
    "Webhook_Timestamp", "content_length", "transfer_encoding", "host", "connection",
    "content-type", "Content_Type", "user_agent",
)  # fmt: skip


@attack("subscribers: headers that forge ours")
async def forged_headers(arena: Arena, report: Report) -> None:
    """Many servers treat `_` like `-`: either spelling of a header of ours is refused."""
    async with origin() as there:
        for name in _OURS:
            answer = await arena.api.call(
                "POST", "/v1/subscribers",
                {"url": f"{there.url}/hook", "types": ["job.*"], "headers": {name: "v1,forged"}},
            )  # fmt: skip
            if name.lower() in ("content-type", "content_type", "user_agent"):
                continue
            refused = answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
            report.check(refused, f"{name}: {answer.status_code}")
        made = await arena.api.subscribe(f"{there.url}/hook", "job.*")
        answer = await arena.api.call(
            "PATCH", f"/v1/subscribers/{made['id']}", {"headers": {"Webhook_Signature": "v1,x"}}
        )
        report.check(
            answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY, f"PATCH {answer.status_code}"
        )


@attack("subscribers: more than a key may have", timeout=90)
async def many(arena: Arena, report: Report) -> None:
    """There is a limit of each key, and of each address."""
    key = await arena.key("write")
    headers = {"authorization": f"Bearer {key}"}

    async def create(host: str, path: str) -> int:
        body = {"url": f"http://{host}:9/{path}", "types": ["job.*"]}
        return (
            await arena.api.http.post("/v1/subscribers", json=body, headers=headers)
        ).status_code

    for name, path in (("at one address", "hook"), ("at many addresses", "hook/{}")):
        answers: Counter[int] = Counter()
        for first in range(0, _LIMIT + 60, 20):
            numbers = range(first, first + 20)
            calls = (create(f"127.0.{n % 250}.1", path.format(n)) for n in numbers)
            if "{}" not in path:
                calls = (create("127.0.0.1", path) for _ in numbers)
            answers += Counter(await asyncio.gather(*calls))
        refused = answers.total() - answers[201]
        report.at_most(f"made {name}", answers[201], _LIMIT)
        report.check(answers.keys() <= {201, 409, 422, 429}, f"{name}: {dict(answers)}")
        report.check(refused > 0, f"{name}: none was refused")


@attack("chat: controls of direction in texts")
async def bidi_in_slack(arena: Arena, report: Report) -> None:
    """They are stripped: a message reads as it was written."""
    async with origin() as chat:
        await arena.api.subscribe(f"{chat.url}/slack", "job.*", kind="slack")
        await arena.event(model=f"safe{_BIDI}gpj.exe")
        await chat.gets(1)
    text = json.dumps(chat.asked[0].json, ensure_ascii=False)
    found = [f"U+{ord(each):04X}" for each in _BIDI if each in text]
    report.check(not found, f"sent: {' '.join(found)}")
    mentions = re.findall(r"<!\w+|<@", text)
    report.check(not mentions, f"mentions: {mentions}")


@attack("deliveries: a job is retried once", timeout=90)
async def retried_twice(arena: Arena, report: Report) -> None:
    """`jobs ls --status failed -q | jobs retry -`, three times, renders once."""

    async def fail(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"id": "t1", "object": "job", "status": "failed", "error": {"code": "x"}})
        writer.write(response(200, body.encode()))

    plain, arena.vendor.answer = arena.vendor.answer, fail
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    await arena.api.http.post(path, json={"id": "t1", "object": "job", "status": "failed"})
    await arena.api.ended(job["id"])
    arena.vendor.answer, before = plain, arena.vendor.count("POST")
    env = {"ORCHESTRATOR_SERVER": arena.url, "ORCHESTRATOR_API_KEY": KEY}
    for _ in range(3):
        listed = await run(arena.folder, "jobs", "ls", "--status", "failed", "-q", env=env)
        assert listed.code == 0, listed.err
        await run(arena.folder, "jobs", "retry", "-", env=env, stdin=listed.out)
    await asyncio.sleep(1.5)
    report.at_most("renders", arena.vendor.count("POST") - before, 1)
