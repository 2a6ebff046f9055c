"""What one caller may hold: memory, places, the event loop; and what stays free for the others."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.api import request_body
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.idempotency import fingerprints
from orchestrator.foundation import off_loop
from orchestrator.foundation.admission import Admission, Limit, SharedAdmission
from orchestrator.foundation.errors import Problem, Unavailable
from orchestrator.foundation.json_codec import encode, parse
from orchestrator.foundation.json_text import is_plain
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import JobState
from tests.api.test_support import ADMIN, BODY, TWO, Caller, calling, submitted
from tests.harness.api_caller import until


def dense(count: int = 60_000) -> dict[str, Any]:
    return {**BODY, "input": {"prompt": "a cat", "extra": {"x": [[]] * count}}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Caller]:
    async with calling(tmp_path, page_bytes=100_000) as caller:
        yield caller


def test_one_party_cannot_take_the_places_or_bytes_of_the_others() -> None:
    limits = Admission(random.Random(1), Limit(9, 1000), Limit(2, 600))
    with limits.admit("greedy", size=300), limits.admit("greedy", size=300) as full:
        for refused in (lambda: limits.admit("greedy"), lambda: full.hold(301)):
            with pytest.raises(Unavailable):
                refused()
        assert limits.is_full("greedy")
        assert not limits.is_full("modest")
        with limits.admit("modest", size=400):
            pass
    with limits.admit("greedy", size=600):
        pass
    assert not any(level.held for level in limits._levels)


async def test_a_key_that_sends_nothing_of_its_bodies_delays_no_other_key(api: Caller) -> None:
    api.runtime.bodies = Admission(random.Random(1), Limit(9, 4 << 20), Limit(2, 2 << 20))
    stalled = await api.key(Scope.WRITE)
    go_on = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield b"{}"

    length = {**stalled, "content-length": str(1 << 20)}
    held = [
        asyncio.create_task(api.http.post("/v1/jobs", content=never(), headers=length))
        for _ in range(2)
    ]
    await until(lambda: api.runtime.bodies.is_full(*_ids(api)))
    await api.call("POST", "/v1/jobs", 503, BODY, headers=stalled)
    await api.call("POST", "/v1/subscribers", 503, {}, headers=stalled)
    await submitted(api)
    go_on.set()
    assert {response.status_code for response in await asyncio.gather(*held)} == {422}


def _ids(api: Caller) -> list[str]:
    """Return the party that holds most."""
    shares = api.runtime.bodies._levels[1].held
    return [max(shares, key=shares.__getitem__, default="")]


async def test_a_page_holds_no_more_bytes_than_it_may_and_leads_to_the_next(api: Caller) -> None:
    text = "x" * 8000
    for _ in range(7):
        await api.open(input={"prompt": text, "negative_prompt": text, "image_url": text * 2})
    seen: list[str] = []
    path = "/v1/jobs?limit=200"
    while True:
        page = await api.call("GET", path, 200)
        seen += [job["id"] for job in page.json()["data"]]
        assert len(page.content) < 110_000
        if not page.json()["has_more"]:
            break
        assert len(page.json()["data"]) == 3
        path = f"/v1/jobs?limit=200&after={page.json()['next_cursor']}"
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 7


async def test_one_entry_that_is_larger_than_a_page_is_a_page(api: Caller) -> None:
    for _ in range(2):
        job = await api.open(input={"prompt": "x" * 200_000})
        await api.finish(job["id"], JobState.CANCELED)
    for path in ("/v1/jobs", "/v1/events"):
        page = await api.get(path)
        assert (len(page["data"]), page["has_more"]) == (1, True)
        rest = await api.get(f"{path}?after={page['next_cursor']}")
        assert len(rest["data"]) == 1
        assert rest["data"][0]["id"] < page["data"][0]["id"]


async def test_pages_of_every_other_list_are_bounded_by_bytes_too(tmp_path: Path) -> None:
    async with calling(tmp_path, page_bytes=1) as api:
        for _ in range(2):
            job = await submitted(api)
            body = {"url": "https://my.app/hook", "types": ["job.*"]}
            await api.post("/v1/subscribers", 201, body)
            await api.post("/v1/keys", 201, {"name": "one"})
            await api.post("/v1/replays", 202, {})
            await api.finish(job["id"])
        timeline = f"/v1/jobs/{job['id']}/timeline"
        for path in ("subscribers", "keys", "replays", "deliveries", "events", timeline[4:]):
            seen, after = list[str](), ""
            while True:
                page = await api.get(f"/v1/{path}{after}")
                seen += [entry["id"] for entry in page["data"]]
                if not page["has_more"]:
                    break
                after = f"?after={page['next_cursor']}"
                # Rows of deliveries are narrow: they are not weighed in the database.
                assert len(page["data"]) == 1, path
            assert len(seen) == len(set(seen)) >= 2, path


async def test_long_polls_read_no_document_until_the_job_changes_and_then_share_it(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await submitted(api)
    read, reads = api.runtime.store._read, list[str]()

    def noted(run: Any, args: Any) -> Any:
        reads.append(run.__name__)
        return read(run, args)

    monkeypatch.setattr(api.runtime.store, "_read", noted)
    headers = {"prefer": "wait=30", "if-none-match": '"v1"'}
    path = f"/v1/jobs/{job['id']}"
    polls = [asyncio.create_task(api.call("GET", path, 200, headers=headers)) for _ in range(40)]
    waiters = api.runtime.notifier.job_waiters._waiting
    await until(lambda: len(waiters.get(job["id"], ())) == 40)
    assert "_find_document" not in reads
    await api.finish(job["id"], JobState.PROCESSING)
    assert {(await poll).json()["status"] for poll in polls} == {"processing"}
    assert reads.count("_find_document") <= 4


async def test_the_event_loop_works_on_no_large_body(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission, a body that is wrong everywhere, and an answer of the vendor."""
    run, threads = off_loop.callers.run, list[int]()

    async def noted(party: str, size: int, *args: Any) -> Any:
        threads.append(size)
        return await run(party, size, *args)

    monkeypatch.setattr(off_loop.callers, "run", noted)
    body = dense()
    made = await api.post("/v1/jobs", 202, body)
    assert made["input"]["extra"] == body["input"]["extra"]
    wrong = {f"{n:x}": 0 for n in range(6_000)}
    refused = await api.post("/v1/jobs", 422, wrong)
    assert refused["errors"][0]["code"] == "too_many_errors"
    await api.call(
        "POST", "/v1/subscribers", 422, {"url": "https://x.example", "types": [1] * 9000}
    )
    assert all(size >= off_loop.LARGE for size in threads)
    assert len(threads) == 3


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (b'{"a":[1,"\\ud83d\\ude00 \\\\u0000 \\"[[[["]}', True),
        (b'["\\u0000"]', False),
        (b'["\\ud83d"]', False),
        (b'["\\ude00\\ud83d"]', False),
        (b'["\\ud83d\\\\\\ude00"]', False),
        (b'["\\\\\\u0000"]', False),
        (b"[1e400]", False),
        (b"[" * 64 + b"]" * 64, True),
        (b"[" * 65 + b"]" * 65, False),
    ],
)
def test_what_no_database_stores_shows_in_the_text(text: bytes, plain: bool) -> None:
    assert is_plain(text, 64) is plain
    filler = b'{"x":' + text + b',"y":"' + b" " * off_loop.LARGE + b'"}'
    for body in (text, filler):
        with contextlib.nullcontext() if plain else pytest.raises(Problem):
            request_body.parse(body if body is filler or plain else filler)


def test_a_large_body_is_parsed_as_a_small_one() -> None:
    value = {"id": 2**70, "n": [-1, 1.5, 1e16, "é\ud83d\ude00".encode("utf-16", "surrogatepass")
             .decode("utf-16")], "fill": " " * 5000}  # fmt: skip
    assert parse(json.dumps(value).encode()) == value
    value["id"] = 7
    assert parse(json.dumps(value).encode()) == value
    assert parse(encode(value)) == value


def test_a_fingerprint_is_that_of_the_canonical_text() -> None:
    keys = Keys(["a" * 40])
    for value in ({}, dense(12_001), {"b": [{}] * 5001, "a": {"é": None, "": []}}, [1], "x"):
        again = json.loads(json.dumps(value, indent=1))
        assert fingerprints(keys, again) == fingerprints(keys, value)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        assert fingerprints(keys, value)[-1] == hashlib.sha256(text.encode()).hexdigest()
    assert fingerprints(keys, {"b": 1, "a": 2}) == fingerprints(keys, {"a": 2, "b": 1})


@pytest.mark.parametrize(("step", "at"), [("read", "find"), ("claim", "touch")])
async def test_a_key_revoked_while_it_is_first_used_is_refused_after_that(
    api: Caller, monkeypatch: pytest.MonkeyPatch, step: str, at: str
) -> None:
    headers = await api.key(Scope.READ)
    (row,) = await api.rows("api_key")
    store, work = api.runtime.store, getattr(api.runtime.store, step)
    revoked = list[bool]()

    async def slow(run: Any, *args: Any) -> Any:
        found = await work(run, *args)
        if run.__name__ == at and not revoked:
            revoked.append(True)
            admin = {"authorization": f"Bearer {ADMIN}"}
            await api.call("DELETE", f"/v1/keys/{row['id']}", 204, headers=admin)
        return found

    monkeypatch.setattr(store, step, slow)
    for _ in range(2):
        await api.call("GET", "/v1/accounts", 401, headers=headers)
    assert revoked


async def test_a_long_poll_of_a_key_revoked_meanwhile_reveals_nothing(api: Caller) -> None:
    headers = await api.key(Scope.READ)
    (row,) = await api.rows("api_key")
    job = await submitted(api)
    wait = {**headers, "prefer": "wait=30"}
    poll = asyncio.create_task(api.call("GET", f"/v1/jobs/{job['id']}", 401, headers=wait))
    await until(lambda: api.runtime.notifier.job_waiters._waiting)
    await api.call("DELETE", f"/v1/keys/{row['id']}", 204)
    api.clock.advance(1)
    await api.finish(job["id"])
    refused = (await poll).json()
    assert (refused["code"], "input" in refused) == ("unauthorized", False)


async def test_no_answer_of_the_api_may_be_stored_by_a_cache(api: Caller) -> None:
    job = await submitted(api)
    for path, status in (("jobs", 200), (f"jobs/{job['id']}", 200), ("jobs/x", 404), ("x", 404)):
        response = await api.call("GET", f"/v1/{path}", status)
        assert response.headers["cache-control"] == "no-store"
    anonymous = await api.http.get("/v1/jobs", headers={"authorization": ""})
    assert (anonymous.status_code, anonymous.headers["cache-control"]) == (401, "no-store")


@pytest.mark.parametrize(
    "answer",
    [b'{"id":"\\ud800"}', b'{"a":NaN}', b'{"a":1e999}', b"9" * 5000, b"\xff", b'{"a":"\\u0000"}',
     b"[" * 400 + b"]" * 400],
)  # fmt: skip
async def test_whatever_a_vendor_answers_an_upload_it_is_no_fault_of_ours(
    tmp_path: Path, answer: bytes
) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        api.network.answer = lambda _: httpx.Response(200, content=answer)
        form = {"kind": "video", "purpose": "reference", "account": "dream"}
        files = {"file": ("demo.mp4", b"film")}
        response = await api.call("POST", "/v1/files/upload", 502, data=form, files=files)
        assert response.json()["code"] == "vendor_error"


async def test_large_responses_that_are_not_read_hold_no_more_than_the_share_of_their_key(
    api: Caller,
) -> None:
    job = await api.open(input={"prompt": "x" * 100_000})
    limits = Admission(random.Random(1), Limit(9, 1 << 20), Limit(9, 250_000))
    api.runtime.responses = SharedAdmission(limits)
    path = f"/v1/jobs/{job['id']}"
    body = b"x" * 200_000
    reader = await api.key(Scope.READ)
    with api.runtime.responses.hold(await _caller_id(api), body):
        with api.runtime.responses.hold("another", body):
            await api.call("GET", path, 503)
        await api.call("GET", path, 200, headers=reader)
    assert len((await api.call("GET", path, 200)).content) > 100_000
    assert not api.runtime.responses._held


async def _caller_id(api: Caller) -> str:
    made = await submitted(api)
    return (await api.job(made["id"]))["api_key"]
