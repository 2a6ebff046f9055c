"""Secrets at rest, in answers and in the log; keys that are revoked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import Counter

import httpx

from tests.attack.arena import VENDOR_KEY, Arena
from tests.attack.attack import Report, attack
from tests.attack.origin import dreamto, origin, replies
from tests.harness.api_caller import KEY

_QUERY, _PASSWORD = "query-secret-7f3a91", "password-secret-5c2e08"
_HEADER, _PATH = "header-secret-19be44", "path-secret-d07c55"


async def _with_secrets(arena: Arena, url: str) -> list[str]:
    """Create a subscriber and a job with secrets in their URLs; return paths that show them."""
    host = url.removeprefix("http://")
    secret = f"http://user:{_PASSWORD}@{host}/hook/x?token={_QUERY}"
    for address in (secret, f"{url}/hook/x?token={_QUERY}"):
        answer = await arena.api.call(
            "POST", "/v1/subscribers",
            {"url": address, "types": ["job.*"], "headers": {"x-auth": _HEADER}},
        )  # fmt: skip
        if answer.is_success:
            break
    made = answer.raise_for_status().json()
    slack = await arena.api.call(
        "POST", "/v1/subscribers",
        {"url": f"{url}/services/{_PATH}?token={_QUERY}", "kind": "slack", "types": ["job.*"]},
    )  # fmt: skip
    job = await arena.event(callback_url=f"{url}/caller?token={_QUERY}", callback_events=["job.*"])
    await arena.delivered()
    await arena.api.call("POST", f"/v1/jobs/{job['id']}/retry")
    event = (await arena.api.get(f"/v1/events?job={job['id']}"))["data"][0]
    deliveries = (await arena.api.get("/v1/deliveries"))["data"]
    chat = slack.json().get("id", made["id"])
    return [
        "/v1/jobs", f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/timeline", "/v1/events",
        f"/v1/events/{event['id']}", "/v1/subscribers", f"/v1/subscribers/{made['id']}",
        f"/v1/subscribers/{chat}", "/v1/deliveries", "/v1/accounts",
        *(f"/v1/deliveries/{row['id']}" for row in deliveries),
    ]  # fmt: skip


@attack("secrets: what a read key sees")
async def read_key(arena: Arena, report: Report) -> None:
    """Neither queries, passwords nor headers of URLs."""
    async with origin() as there:
        paths = await _with_secrets(arena, there.url)
        key = await arena.key("read")
        for path in paths:
            answer = await arena.api.http.get(path, headers={"authorization": f"Bearer {key}"})
            report.check(answer.is_success, f"{path}: {answer.status_code}")
            for secret in (_QUERY, _PASSWORD, _HEADER):
                report.check(secret not in answer.text, f"{path} shows {secret[:14]}")
        bodies = b"".join(each.body for each in there.asked)
        for secret in (_QUERY, _PASSWORD, _HEADER):
            report.check(secret.encode() not in bodies, f"an event shows {secret[:14]}")


@attack("secrets: in the database file")
async def database_file(arena: Arena, report: Report) -> None:
    """Addresses are encrypted: a copy of the file gives none away, nor callback tokens or keys."""
    async with origin() as there:
        await _with_secrets(arena, there.url)
        key = await arena.key("write")
        await arena.api.http.get("/v1/jobs", headers={"authorization": f"Bearer {key}"})
        job = await arena.submit()
        token = (await arena.taken(job["id"])).split("/")[-1]
    data = b"".join(path.read_bytes() for path in arena.folder.glob("jobs.db*"))
    secrets = {
        "the query of a URL": _QUERY, "the password of a URL": _PASSWORD, "a header": _HEADER,
        "the path of a chat URL": _PATH, "a callback token": token, "an API key": key,
        "a bootstrap key": KEY,
    }  # fmt: skip
    for name, secret in secrets.items():
        for spelled in (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")):
            report.check(spelled not in data, f"{name} is in the clear")
    for path in arena.folder.glob("jobs.db*"):
        mode = path.stat().st_mode & 0o777
        if path.suffix == ".keys":
            report.check(mode & 0o077 == 0, f"{path.name} has mode {mode:o}")


@attack("secrets: in the log")
async def in_log(arena: Arena, report: Report) -> None:
    """Failures of every kind log no token, key or address."""
    async with origin(replies(500, b"no")) as there:
        await _with_secrets_failing(arena, there.url)
        job = await arena.submit()
        token = (await arena.taken(job["id"])).split("/")[-1]
        await arena.api.http.post(f"/callbacks/main/{token}", content=b"no json")
        await arena.api.http.post(f"/callbacks/main/{token}x", content=b"{}")
    for secret in (_QUERY, _PASSWORD, _HEADER, token, KEY):
        report.check(secret not in arena.log, f"the log shows {secret[:10]}")


@attack("secrets: a vendor that echoes its key")
async def echoed_key(arena: Arena, report: Report) -> None:
    """The key of an account reaches neither the log nor the job."""
    message = f"Incorrect API key provided: {VENDOR_KEY}"
    for status in (400, 401, 403):
        body = json.dumps({"error": {"message": message, "code": "invalid_api_key"}})
        arena.vendor.answer = replies(status, body.encode())
        job = await arena.submit()
        with contextlib.suppress(AssertionError):
            await arena.api.ended(job["id"], 3)
        shown = json.dumps(await arena.api.job(job["id"]))
        report.check(VENDOR_KEY not in shown, f"{status}: the job shows it")
    report.check(VENDOR_KEY not in arena.log, "the log shows it")
    arena.vendor.answer = dreamto()


async def _with_secrets_failing(arena: Arena, url: str) -> None:
    await arena.api.subscribe(f"{url}/h?token={_QUERY}", "job.*", headers={"x-auth": _HEADER})
    await arena.event(callback_url=f"{url}/caller?token={_QUERY}")
    await asyncio.sleep(1)


@attack("keys: first used while revoked", timeout=90)
async def revoked_key(arena: Arena, report: Report) -> None:
    """A key is refused from the answer to its revocation on."""
    taken: Counter[int] = Counter()
    for number in range(40):
        made = (await arena.api.call("POST", "/v1/keys", {"name": "k", "scope": "read"})).json()
        headers = {"authorization": f"Bearer {made['key']}"}

        async def use(delay: float, headers: dict[str, str] = headers) -> None:
            await asyncio.sleep(delay)
            await arena.api.http.get("/v1/accounts", headers=headers)

        uses = [asyncio.create_task(use((number % 8) * each * 1e-4)) for each in range(6)]
        await arena.api.call("DELETE", f"/v1/keys/{made['id']}")
        answer = await arena.api.http.get("/v1/accounts", headers=headers)
        taken[answer.status_code] += answer.status_code != httpx.codes.UNAUTHORIZED
        await asyncio.gather(*uses)
        answer = await arena.api.http.get("/v1/accounts", headers=headers)
        taken[answer.status_code] += answer.status_code != httpx.codes.UNAUTHORIZED
    report.figures["answers"] = " ".join(f"{n}x{status}" for status, n in sorted(taken.items()))
    report.at_most("uses after revocation", taken.total(), 0)


@attack("answers: nothing of /v1 is stored by caches")
async def no_store(arena: Arena, report: Report) -> None:
    """`Cache-Control: no-store` is on every answer, refusals too."""
    job = await arena.submit()
    calls = (
        ("GET", "/v1/jobs", KEY), ("GET", f"/v1/jobs/{job['id']}", KEY), ("GET", "/v1/keys", KEY),
        ("GET", "/v1/signing-key", KEY), ("GET", "/v1/jobs", "wrong"), ("GET", "/v1/nothing", KEY),
        ("GET", "/v1/jobs/job_00000000000000000000000000", KEY), ("PUT", "/v1/jobs", KEY),
        ("GET", "/v1/jobs?limit=0", KEY), ("GET", "/v1/events?wait=0", KEY),
    )  # fmt: skip
    for method, path, key in calls:
        headers = {"authorization": f"Bearer {key}"}
        answer = await arena.api.http.request(method, path, headers=headers)
        kept = "no-store" not in answer.headers.get("cache-control", "")
        report.check(not kept, f"{method} {path} {answer.status_code} has no no-store")
    etag = (await arena.api.call("GET", f"/v1/jobs/{job['id']}")).headers["etag"]
    answer = await arena.api.call("GET", f"/v1/jobs/{job['id']}", if_none_match=etag)
    report.check("no-store" in answer.headers.get("cache-control", ""), "304 has no no-store")
