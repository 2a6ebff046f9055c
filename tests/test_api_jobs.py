"""Jobs over HTTP: taken on once, read, waited for, listed, and let go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.errors import Unavailable
from orchestrator.ids import is_id
from orchestrator.keyring import Scope
from orchestrator.poll import Polling
from orchestrator.states import JobState
from tests.test_api_support import TWO, Caller, calling

BODY: dict[str, Any] = {"model": "kling-v3", "input": {"prompt": "a cat", "duration": 5}}


async def submitted(api: Caller, **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.post("/v1/jobs", 202, BODY | values)
    return made


async def test_a_job_is_owned_before_it_is_accepted(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        body = BODY | {
            "account": "main", "capability": "text2video", "external_task_id": "order-991", "deadline": 3600,
            "callback_url": "https://my.app/hook", "callback_events": ["job.*"], "metadata": {"order": "991"},
        }  # fmt: skip
        response = await api.call("POST", "/v1/jobs", 202, body)
        job = response.json()
        assert response.headers["location"] == job["links"]["self"] == f"https://hooks.example.com/v1/jobs/{job['id']}"
        assert response.headers["retry-after"]
        assert response.headers["etag"] == '"v1"'
        assert is_id(job["id"], "job")
        assert (job["object"], job["status"], job["vendor"], job["version"]) == ("job", "queued", "agentsflare", 1)
        assert (job["external_task_id"], job["metadata"]) == ("order-991", {"order": "991"})
        row = await api.job(job["id"])
        assert row["due_at"] == row["created_at"]
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == 3600
        assert row["callback_events"] == ["job.*"]
        (lane,) = await api.rows("subscriber")
        assert (row["callback_lane"], lane["callback_origin"]) == (lane["id"], "https://my.app")


async def test_what_is_left_out_is_filled_in(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        assert (job["account"], job["capability"], job["external_task_id"]) == ("main", "text2video", job["id"])
        row = await api.job(job["id"])
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == 86400
        image = await submitted(api, input={"prompt": "x", "image_url": "https://i/x.png"})
        assert image["capability"] == "image2video"


async def test_document_0s_form_is_the_same_submission(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        inside = {"prompt": "a cat", "callback_url": "https://my.app/hook", "external_task_id": "my-task-123"}
        job = await api.post("/v1/jobs", 202, {"model": "kling-k3.0-std", "input": inside})
        assert (job["external_task_id"], job["callback_url"]) == ("my-task-123", "https://my.app/hook")
        assert job["input"] == {"prompt": "a cat"}
        same = BODY | {"external_task_id": "a", "input": {"prompt": "x", "external_task_id": "a"}}
        assert (await api.post("/v1/jobs", 202, same))["external_task_id"] == "a"
        other = BODY | {"external_task_id": "b", "input": {"prompt": "x", "external_task_id": "c"}}
        refused = await api.post("/v1/jobs", 422, other)
        assert refused["errors"][0]["pointer"] == "/input/external_task_id"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"account": "nobody"}, "/account"),
        ({"capability": "teleport"}, "/capability"),
        ({"model": ""}, "/model"),
        ({"model": None}, "/model"),
        ({"input": None}, "/input"),
        ({"input": {"prompt": ""}}, "/input/prompt"),
        ({"input": {"prompt": "x", "colour": "red"}}, "/input/colour"),
        ({"input": {"prompt": "x", "duration": "5"}}, "/input/duration"),
        ({"input": {"prompt": "x", "a/b~c": 1}}, "/input/a~1b~0c"),
        ({"input": {"prompt": "a\x00b"}}, "/input/prompt"),
        ({"colour": "red"}, "/colour"),
        ({"external_task_id": "a b"}, "/external_task_id"),
        ({"external_task_id": "x\n"}, "/external_task_id"),
        ({"external_task_id": ""}, "/external_task_id"),
        ({"callback_url": "ftp://my.app/hook"}, "/callback_url"),
        ({"callback_url": "http://127.0.0.1/hook"}, "/callback_url"),
        ({"callback_url": "http://[::1]/hook"}, "/callback_url"),
        ({"callback_url": "http://0x7f.1/hook"}, "/callback_url"),
        ({"callback_url": "https://user:pass@my.app/hook"}, "/callback_url"),
        ({"callback_url": "not a url"}, "/callback_url"),
        ({"callback_events": ["job.exploded"]}, "/callback_events/0"),
        ({"callback_events": []}, "/callback_events"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {"a": "x" * 501}}, "/metadata"),
        ({"metadata": {str(n): n for n in range(51)}}, "/metadata"),
        ({"deadline": 0}, "/deadline"),
        ({"deadline": 1e9}, "/deadline"),
        ({"deadline": True}, "/deadline"),
    ],
)
async def test_a_wrong_field_is_pointed_at_and_nothing_is_owned(
    tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    async with calling(tmp_path) as api:
        refused = await api.post("/v1/jobs", 422, BODY | change)
        assert refused["errors"][0]["pointer"] == pointer
        assert await api.rows("job") == []


async def test_a_field_that_the_dialect_cannot_carry_is_refused_naming_the_vendor(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        body = BODY | {"account": "dream", "input": {"prompt": "x", "last_image_url": "https://i/x.png"}}
        refused = await api.post("/v1/jobs", 422, body)
        assert refused["errors"][0]["pointer"] == "/input/last_image_url"
        assert "dreamto" in refused["errors"][0]["message"]
        refused = await api.post("/v1/jobs", 422, body | {"capability": "omni_video"})
        assert refused["errors"][0]["pointer"] == "/capability"


async def test_the_account_is_needed_where_there_are_several(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        assert (await api.post("/v1/jobs", 422, BODY))["errors"][0]["pointer"] == "/account"


async def test_an_echo_of_what_was_sent_is_in_no_refusal(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        refused = await api.post("/v1/jobs", 422, BODY | {"deadline": "hunter2", "metadata": {"k": "hunter2" * 99}})
        assert "hunter2" not in str(refused)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff\xfe{\x00}\x00", {}, 400),
        (b'{"model": "\xed\xa0\x80"}', {}, 400),
        (b'{"model": NaN}', {}, 400),
        (b'{"model": -Infinity}', {}, 400),
        (b'{"model": ' + b"9" * 5000 + b"}", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"input": ' + b'{"extra":' * 70 + b"1" + b"}" * 71, {}, 400),
        (b'{"model": "\\ud800"}', {}, 422),
        (b'{"\\udfff": 1}', {}, 422),
        (b'{"model": "\\u0000"}', {}, 422),
        (b'{"metadata": {"n": 1e999}}', {}, 422),
        (b"[]", {}, 422),
        (b"null", {}, 422),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip"}, 415),
        (b"{}", {"content-type": "Application/JSON ; charset=utf-8"}, 422),
        (b'"' + b"x" * (1 << 20) + b'"', {}, 413),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    tmp_path: Path, content: bytes, headers: dict[str, str], status: int
) -> None:
    async with calling(tmp_path) as api:
        await api.call("POST", "/v1/jobs", status, content=content, headers=headers)


async def test_a_body_in_two_languages_is_refused(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = httpx.Headers([("content-type", "application/json"), ("content-type", "text/plain")])
        await api.call("POST", "/v1/jobs", 400, content=b"{}", headers=headers)


async def test_a_body_without_a_length_is_refused_while_it_streams(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while sent < 1 << 24:
                sent += 1 << 18
                yield b"x" * (1 << 18)

        await api.call("POST", "/v1/jobs", 413, content=endless())


# -- once


@pytest.mark.parametrize("second", ["k-1", '"k-1"'])
async def test_the_same_key_and_body_are_the_same_job(tmp_path: Path, second: str) -> None:
    async with calling(tmp_path) as api:
        first = await api.call("POST", "/v1/jobs", 202, BODY, headers={"idempotency-key": "k-1"})
        reordered = json.dumps(dict(reversed(BODY.items())), indent=2)
        again = await api.call("POST", "/v1/jobs", 202, content=reordered, headers={"idempotency-key": second})
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert first.json() == again.json()
        assert len(await api.rows("job")) == 1


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = {"idempotency-key": "k-1"}
        first = await api.post("/v1/jobs", 202, BODY, headers=headers)
        refused = await api.post("/v1/jobs", 422, BODY | {"model": "other"}, headers=headers)
        assert (refused["code"], refused["job_id"]) == ("idempotency_key_reused", first["id"])


async def test_each_caller_has_idempotency_keys_of_their_own(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first = await api.post("/v1/jobs", 202, BODY, headers={"idempotency-key": "k"})
        other = await api.post("/v1/jobs", 202, BODY, headers={"idempotency-key": "k", **await api.key(Scope.WRITE)})
        assert first["id"] != other["id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb"])
async def test_an_unusable_idempotency_key_is_refused(tmp_path: Path, key: str) -> None:
    async with calling(tmp_path) as api:
        await api.post("/v1/jobs", 422, BODY, headers={"idempotency-key": key})


async def test_an_external_id_is_taken_once_in_an_account(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first = await submitted(api, external_task_id="order-1")
        refused = await api.post("/v1/jobs", 409, BODY | {"external_task_id": "order-1"})
        assert (refused["code"], refused["job_id"]) == ("external_task_id_taken", first["id"])


async def test_a_hundred_submissions_at_once_are_a_hundred_jobs_and_one_key_is_one(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        alone = [api.post("/v1/jobs", 202, BODY) for _ in range(50)]
        shared = [api.post("/v1/jobs", 202, BODY, headers={"idempotency-key": "k"}) for _ in range(50)]
        jobs = await asyncio.gather(*alone, *shared)
        assert len({job["id"] for job in jobs}) == len(await api.rows("job")) == 51


# -- waiting


async def test_a_caller_may_wait_for_the_end(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        waiting = asyncio.create_task(api.call("POST", "/v1/jobs", 200, BODY, headers={"prefer": "wait=30"}))
        while not (rows := await api.rows("job")):
            await asyncio.sleep(0.01)
        await api.finish(rows[0]["id"])
        response = await waiting
        assert response.headers["preference-applied"] == "wait=30"
        assert "retry-after" not in response.headers
        job = response.json()
        assert (job["status"], job["resolved_by"]) == ("succeeded", "push")
        assert job["output"]["videos"][0]["duration"] == 5.0


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=0", "wait=0"),
        ("respond-async, wait=0", "wait=0"),
        ('Wait="0"; x', "wait=0"),
        ("wait=x", None),
        ("", None),
    ],
)
async def test_preferences_are_applied_or_ignored(tmp_path: Path, prefer: str, applied: str | None) -> None:
    async with calling(tmp_path) as api:
        response = await api.call("POST", "/v1/jobs", 202, BODY, headers={"prefer": prefer})
        assert response.headers.get("preference-applied") == applied


async def test_nobody_waits_longer_than_a_minute(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await api.open()
        await api.finish(job["id"])
        response = await api.call("GET", f"/v1/jobs/{job['id']}", 200, headers={"prefer": "wait=999"})
        assert response.headers["preference-applied"] == "wait=60"


async def test_what_a_caller_has_already_is_not_sent_again(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        path = f"/v1/jobs/{job['id']}"
        for tag in ('"v1"', 'W/"v1"', '"v0", "v1"', "*"):
            unchanged = await api.call("GET", path, 304, headers={"if-none-match": tag})
            assert (unchanged.content, unchanged.headers["etag"]) == (b"", '"v1"')
        assert (await api.call("GET", path, 200, headers={"if-none-match": '"v0"'})).headers["retry-after"]


async def test_a_long_poll_ends_with_the_change_or_the_time(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        path, headers = f"/v1/jobs/{job['id']}", {"if-none-match": '"v1"'}
        late = await api.call("GET", path, 304, headers=headers | {"prefer": "wait=1"})
        assert late.headers["preference-applied"] == "wait=1"
        polling = asyncio.create_task(api.call("GET", path, 200, headers=headers | {"prefer": "wait=30"}))
        await asyncio.sleep(0)
        await api.finish(job["id"], JobState.PROCESSING)
        assert (await polling).json()["status"] == "processing"


# -- reading


async def test_jobs_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = [(await submitted(api))["id"] for _ in range(5)][::-1]
        first = await api.call("GET", "/v1/jobs?limit=2&account=main", 200)
        page = first.json()
        assert page.keys() == {"object", "data", "has_more", "next_cursor"}
        assert [job["id"] for job in page["data"]] == made[:2]
        assert (page["object"], page["has_more"], page["next_cursor"]) == ("list", True, made[1])
        onward = first.links["next"]["url"].removeprefix(api.rt.base)
        second = (await api.call("GET", onward, 200)).json()
        assert [job["id"] for job in second["data"]] == made[2:4]
        last = await api.call("GET", f"/v1/jobs?limit=2&after={made[3]}", 200)
        assert last.json() == {
            "object": "list",
            "data": [last.json()["data"][0]],
            "has_more": False,
            "next_cursor": None,
        }
        assert "link" not in last.headers


async def test_lists_are_filtered(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        early = await submitted(api, account="main", model="a", external_task_id="e-1")
        api.clock.turn(10)
        late = await submitted(api, account="dream", model="b")
        await api.finish(late["id"])

        async def ids(query: str) -> list[str]:
            return [job["id"] for job in (await api.get(f"/v1/jobs?{query}"))["data"]]

        assert await ids("status=queued") == await ids("account=main") == await ids("model=a") == [early["id"]]
        assert await ids("external_task_id=e-1") == [early["id"]]
        assert await ids("status=queued,succeeded") == [late["id"], early["id"]]
        assert await ids("resolved_by=push") == await ids(f"created_after={early['created_at']}") == [late["id"]]
        assert await ids("created_after=2026-11-20T13:00:00%2B02:00") == [late["id"], early["id"]]
        assert await ids("account=other") == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=1_0", "limit=", "limit=1&limit=2", "status=done", "status=",
     "status=queued,", "after=job_x", "after=evt_01kb7x3m5tf6a8r2w9n4c1d0eh", "resolved_by=me", "created_after=1",
     "created_after=2026-11-20", "created_after=2026-11-20T10:00:00", "created_after=2026-13-20T10:00:00Z", "colour=red",
     "account=%00", "model="],
)  # fmt: skip
async def test_a_query_out_of_range_is_refused(tmp_path: Path, query: str) -> None:
    async with calling(tmp_path) as api:
        await api.get(f"/v1/jobs?{query}", 422)


@pytest.mark.parametrize("method", ["GET /", "GET /timeline", "POST /cancel", "POST /refresh", "POST /retry"])
async def test_an_unknown_job_is_not_found(tmp_path: Path, method: str) -> None:
    async with calling(tmp_path) as api:
        verb, _, call = method.partition(" /")
        for job_id in (api.rt.ids("job"), "job_x", "%00", api.rt.ids("evt")):
            await api.call(verb, f"/v1/jobs/{job_id}/{call}".rstrip("/"), 404)


async def test_the_timeline_tells_everything_oldest_first(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await api.post("/v1/subscribers", 201, {"url": "https://my.app/hook", "types": ["job.*"]})
        job = await submitted(api)
        note = (job["id"], "submit", {"attempt": 1, "outcome": "begun", "kind": "no", "at": "no"})
        await api.rt.store.write(api.rt.ledger.note, [note], api.clock.now())
        await api.finish(job["id"])
        await api.post(f"/v1/jobs/{job['id']}/retry", 202)
        whole = await api.get(f"/v1/jobs/{job['id']}/timeline")
        kinds = [entry["kind"] for entry in whole["data"]]
        assert kinds == ["submit", "move", "event", "delivery", "operator"]
        assert whole["data"] == sorted(whole["data"], key=lambda entry: entry["at"])
        assert whole["data"][1] | {"to": "succeeded", "by": "push"} == whole["data"][1]
        paged, after = [], ""
        while True:
            page = await api.get(f"/v1/jobs/{job['id']}/timeline?limit=2{after}")
            paged += page["data"]
            if not page["has_more"]:
                break
            after = f"&after={page['next_cursor']}"
        assert paged == whole["data"]
        await api.get(f"/v1/jobs/{job['id']}/timeline?after=x", 422)


# -- changing


async def test_a_canceled_job_is_followed_no_more(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        canceled = await api.post(f"/v1/jobs/{job['id']}/cancel", 200)
        assert (canceled["status"], canceled["resolved_by"]) == ("canceled", "operator")
        assert (await api.post(f"/v1/jobs/{job['id']}/cancel", 409))["job_id"] == job["id"]
        await api.finish(job["id"])
        assert (await api.get(f"/v1/jobs/{job['id']}"))["status"] == "canceled"
        (told,) = [
            one for one in (await api.get(f"/v1/jobs/{job['id']}/timeline"))["data"] if one["kind"] == "operator"
        ]
        assert told["action"] == "cancel"


async def test_a_final_job_can_be_retried_as_a_new_one(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(
            api, external_task_id="a", metadata={"k": "v"}, callback_url="https://my.app/x", deadline=99
        )
        assert (await api.post(f"/v1/jobs/{job['id']}/retry", 409))["code"] == "conflict"
        await api.finish(job["id"], JobState.FAILED)
        headers = {"idempotency-key": "again"}
        response = await api.call("POST", f"/v1/jobs/{job['id']}/retry", 202, headers=headers)
        again = response.json()
        assert response.headers["location"] == again["links"]["self"]
        assert (again["retry_of"], again["status"], again["external_task_id"]) == (job["id"], "queued", again["id"])
        for same in ("account", "model", "capability", "input", "callback_url", "metadata"):
            assert again[same] == job[same]
        row = await api.job(again["id"])
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == pytest.approx(99, abs=0.01)
        repeated = await api.call("POST", f"/v1/jobs/{job['id']}/retry", 202, headers=headers)
        assert repeated.json()["id"] == again["id"]
        await api.post(f"/v1/jobs/{job['id']}/retry", 422, {"colour": "red"})


async def test_a_refresh_asks_the_vendor_and_answers_with_the_job_as_it_then_is(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await api.open(state=JobState.PROCESSING, vendor_task_id="t-1")
        asking = asyncio.create_task(api.call("POST", f"/v1/jobs/{job['id']}/refresh", 200))
        stage = Polling(api.rt)
        while not (questions := await stage.take(1)):
            await asyncio.sleep(0.01)
        assert not asking.done()
        said = {"code": 0, "data": {"task_id": "t-1", "task_status": "succeed",
                                    "task_result": {"videos": [{"url": "https://v/x.mp4", "duration": "5"}]}}}  # fmt: skip
        api.internet.answer = lambda _: httpx.Response(200, json=said)
        await stage.work(questions[0])
        done = (await asking).json()
        assert (done["status"], done["resolved_by"]) == ("succeeded", "poll")
        await api.post(f"/v1/jobs/{job['id']}/refresh", 409)


async def test_a_refresh_of_a_job_that_nobody_has_answers_at_once(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        assert (await api.post(f"/v1/jobs/{job['id']}/refresh", 200))["status"] == "queued"


async def test_trouble_of_ours_is_a_503_and_a_bug_a_500_that_says_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        errors = iter([Unavailable("the disk is full: /secret/path", retry_after=7), RuntimeError("hunter2")])

        def fail(*_: object) -> Any:
            raise next(errors)

        api.rt.store.read = fail  # type: ignore[method-assign]
        down = await api.call("GET", "/v1/jobs", 503)
        assert (down.headers["retry-after"], down.json()["code"]) == ("7", "unavailable")
        assert "secret" not in down.text
        bug = await api.call("GET", "/v1/jobs", 500)
        assert "hunter2" not in bug.text
