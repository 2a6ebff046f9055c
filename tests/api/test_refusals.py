"""Requests that are refused: each field of each body and query, and access without a right.

They change nothing, so they share a service.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from orchestrator.api import request_body
from orchestrator.api.auth.api_keys import Scope
from orchestrator.foundation.errors import Problem
from tests.api.test_support import BODY, HOOK, PATHS, Caller, is_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Of the account `main`: there are two.
MINE = BODY | {"account": "main"}


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nothing_under_v1_is_served_without_a_key(
    service: Caller, method: str, path: str
) -> None:
    key = service.http.headers.pop("authorization")
    try:
        for headers in (
            {},
            {"authorization": "Bearer orc_" + "b" * 43},
            {"authorization": "Basic x"},
        ):
            refused = await service.call(method, path, 401, headers=headers)
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["code"] == "unauthorized"
    finally:
        service.http.headers["authorization"] = key


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_read_key_reads_and_changes_nothing(
    service: Caller, method: str, path: str
) -> None:
    headers = await service.key(Scope.READ)
    response = await service.http.request(method, path, headers=headers)
    closed = method != "GET" or path in ("/v1/keys", "/v1/keys/x", "/v1/signing-key")
    assert (response.status_code == 403) == closed
    if closed:
        is_problem(response)
        assert response.json()["code"] == "insufficient_scope"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"account": "nobody"}, "/account"),
        ({"account": None}, "/account"),
        ({"capability": "teleport"}, "/capability"),
        ({"model": ""}, "/model"),
        ({"model": None}, "/model"),
        ({"input": None}, "/input"),
        ({"input": {"prompt": ""}}, "/input/prompt"),
        ({"input": {"prompt": "x", "colour": "red"}}, "/input/colour"),
        ({"input": {"prompt": "x", "duration": "5"}}, "/input/duration"),
        ({"input": {"prompt": "x", "a/b~c": 1}}, "/input/a~1b~0c"),
        ({"input": {"prompt": "x", "image_url": "cat.png"}}, "/input/image_url"),
        ({"input": {"prompt": "x", "image_urls": ["file:///cat.png"]}}, "/input/image_urls/0"),
        ({"input": {"prompt": "x", "videos": [{"video_url": "a"}]}}, "/input/videos/0/video_url"),
        ({"input": {"prompt": "a\x00b"}}, "/input/prompt"),
        ({"colour": "red"}, "/colour"),
        ({"external_task_id": "a b"}, "/external_task_id"),
        ({"external_task_id": "x\n"}, "/external_task_id"),
        ({"callback_url": "ftp://my.app/hook"}, "/callback_url"),
        ({"callback_url": "http://127.0.0.1/hook"}, "/callback_url"),
        ({"callback_url": "http://[::1]/hook"}, "/callback_url"),
        ({"callback_url": "http://0x7f.1/hook"}, "/callback_url"),
        ({"callback_url": "https://user:pass@my.app/hook"}, "/callback_url"),
        ({"callback_url": "not a url"}, "/callback_url"),
        ({"callback_url": "./hook"}, "/callback_url"),
        ({"callback_url": "data:,hook"}, "/callback_url"),
        ({"callback_url": "https://my.app]/"}, "/callback_url"),
        ({"callback_events": ["job.exploded"]}, "/callback_events/0"),
        ({"callback_events": []}, "/callback_events"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {"a": "x" * 501}}, "/metadata"),
        ({"metadata": {str(n): n for n in range(51)}}, "/metadata"),
        ({"deadline": 0}, "/deadline"),
        ({"deadline": 1e9}, "/deadline"),
        ({"deadline": True}, "/deadline"),
        ({"start_after": -1}, "/start_after"),
        ({"start_after": 30 * 86400 + 1}, "/start_after"),
        ({"start_after": True}, "/start_after"),
        ({"start_after": "60"}, "/start_after"),
        ({"start_after": "2026-11-20"}, "/start_after"),
        ({"start_after": "2026-13-45T00:00:00Z"}, "/start_after"),
        ({"start_after": "9999-12-31T23:59:59-23:00"}, "/start_after"),
        ({"start_after": "2999-01-01T00:00:00Z"}, "/start_after"),
        ({"start_after": []}, "/start_after"),
        ({"priority": 11}, "/priority"),
        ({"priority": -11}, "/priority"),
        ({"priority": 1.5}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"fairness_key": ""}, "/fairness_key"),
        ({"fairness_key": "x" * 65}, "/fairness_key"),
        ({"fairness_key": "a\x00b"}, "/fairness_key"),
        ({"fairness_key": " "}, "/fairness_key"),
        ({"fairness_key": "a "}, "/fairness_key"),
        ({"fairness_key": "a\nb"}, "/fairness_key"),
        ({"fairness_key": "a\u202eb"}, "/fairness_key"),
        ({"fairness_key": "a\u200bb"}, "/fairness_key"),
        ({"fairness_key": 7}, "/fairness_key"),
    ],
)
async def test_a_wrong_field_of_a_submission_is_pointed_at_and_no_job_is_created(
    service: Caller, change: dict[str, Any], pointer: str
) -> None:
    refused = await service.post("/v1/jobs", 422, MINE | change)
    assert refused["errors"][0]["pointer"] == pointer
    assert await service.rows("job") == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("callback_url", "http://10.0.0.1/hook"), ("callback_url", 5), ("external_task_id", "a b")],
)
async def test_fields_of_document_0_are_pointed_at_where_they_were_sent(
    service: Caller, name: str, wrong: object
) -> None:
    inside = await service.post("/v1/jobs", 422, MINE | {"input": {"prompt": "x", name: wrong}})
    assert [fault["pointer"] for fault in inside["errors"]] == [f"/input/{name}"]
    assert inside["detail"].startswith(f"/input/{name}: ")
    outside = await service.post("/v1/jobs", 422, MINE | {name: wrong})
    assert [fault["pointer"] for fault in outside["errors"]] == [f"/{name}"]


async def test_a_field_that_the_dialect_cannot_carry_is_refused_naming_the_vendor(
    service: Caller,
) -> None:
    body = BODY | {
        "account": "dream",
        "input": {"prompt": "x", "last_image_url": "https://i/x.png"},
    }
    refused = await service.post("/v1/jobs", 422, body)
    assert refused["errors"][0]["pointer"] == "/input/last_image_url"
    assert "dreamto" in refused["errors"][0]["message"]
    refused = await service.post("/v1/jobs", 422, body | {"capability": "omni_video"})
    assert refused["errors"][0]["pointer"] == "/capability"


async def test_the_account_is_required_where_there_are_several(service: Caller) -> None:
    refused = await service.post("/v1/jobs", 422, BODY)
    assert refused["errors"][0]["pointer"] == "/account"


async def test_no_refusal_echoes_what_was_sent(service: Caller) -> None:
    body = MINE | {"deadline": "hunter2", "metadata": {"k": "hunter2" * 99}}
    assert "hunter2" not in str(await service.post("/v1/jobs", 422, body))


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb"])
async def test_an_unusable_idempotency_key_is_refused(service: Caller, key: str) -> None:
    refused = await service.post("/v1/jobs", 422, MINE, headers={"idempotency-key": key})
    assert [fault["pointer"] for fault in refused["errors"]] == [""]


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
        (b"{", {"content-type": "text/plain"}, 400),
        (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 400),
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip"}, 415),
        (b"{}", {"content-type": "Application/JSON ; charset=utf-8"}, 422),
        (b'"' + b"x" * (1 << 20) + b'"', {}, 413),
    ],
)
async def test_a_body_that_is_not_a_json_object_is_refused(
    service: Caller, content: bytes, headers: dict[str, str], status: int
) -> None:
    await service.call("POST", "/v1/jobs", status, content=content, headers=headers)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=1_0", "limit=", "limit=1&limit=2",
     "status=done", "status=", "status=queued,", "after=job_x",
     "after=evt_01kb7x3m5tf6a8r2w9n4c1d0eh", "resolved_by=me", "created_after=1",
     "created_after=2026-11-20", "created_after=2026-11-20T10:00:00",
     "created_after=2026-13-20T10:00:00Z", "colour=red", "account=%00", "model="],
)  # fmt: skip
async def test_a_query_out_of_range_is_refused(service: Caller, query: str) -> None:
    await service.get(f"/v1/jobs?{query}", 422)


@pytest.mark.parametrize(
    "method",
    ["GET /", "GET /timeline", "GET /outputs/0", "POST /cancel", "POST /refresh", "POST /retry"],
)
async def test_an_unknown_job_is_not_found(service: Caller, method: str) -> None:
    verb, _, call = method.partition(" /")
    for job_id in (service.runtime.ids("job"), "job_x", "%00", service.runtime.ids("evt")):
        await service.call(verb, f"/v1/jobs/{job_id}/{call}".rstrip("/"), 404)


@pytest.mark.parametrize(
    "call",
    ["GET", "PATCH", "DELETE", "POST /test", "POST /pause", "POST /resume", "POST /replay",
     "POST /rotate-secret"],
)  # fmt: skip
async def test_an_unknown_subscriber_is_not_found(service: Caller, call: str) -> None:
    method, _, verb = call.partition(" ")
    for subscriber_id in (service.runtime.ids("sub"), "sub_x"):
        await service.call(method, f"/v1/subscribers/{subscriber_id}{verb}", 404)


async def test_an_unknown_delivery_or_event_is_not_found(service: Caller) -> None:
    await service.get("/v1/deliveries/" + service.runtime.ids("dlv"), 404)
    await service.post("/v1/deliveries/" + service.runtime.ids("dlv") + "/retry", 404)
    await service.get("/v1/events/" + service.runtime.ids("evt"), 404)
    await service.get("/v1/events/stray", 404)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kind": "pigeon"}, "/kind"),
        ({"url": "http://10.0.0.1/x"}, "/url"),
        ({"url": "gopher://my.app"}, "/url"),
        ({"url": ""}, "/url"),
        ({"kind": "slack", "url": "http://hooks.slack.com/x"}, "/url"),
        ({"types": ["job.*", "job.exploded"]}, "/types/1"),
        ({"types": []}, "/types"),
        ({"types": "job.*"}, "/types"),
        ({"headers": {"webhook-id": "x"}}, "/headers"),
        ({"headers": {"Host": "x"}}, "/headers"),
        ({"headers": {"Content-Length": "1"}}, "/headers"),
        ({"headers": {"x": "a\r\nb: c"}}, "/headers"),
        ({"headers": {"a b": "x"}}, "/headers"),
        ({"options": {"format": "xml"}}, "/options/format"),
        ({"options": {"colour": "red"}}, "/options/colour"),
        ({"rate_limit": 0}, "/rate_limit"),
        ({"max_in_flight": 0}, "/max_in_flight"),
        ({"max_in_flight": 1.5}, "/max_in_flight"),
        ({"description": "x" * 501}, "/description"),
        ({"secret": "whsec_mine"}, "/secret"),
    ],
)
async def test_a_wrong_field_of_a_subscriber_is_pointed_at(
    service: Caller, change: dict[str, Any], pointer: str
) -> None:
    refused = await service.post("/v1/subscribers", 422, HOOK | change)
    assert refused["errors"][0]["pointer"] == pointer
    if "kind" not in change:
        subscriber = await service.post("/v1/subscribers", 201, HOOK)
        path = f"/v1/subscribers/{subscriber['id']}"
        refused = (await service.call("PATCH", path, 422, change)).json()
        assert refused["errors"][0]["pointer"] == pointer


async def test_unknown_paths_and_methods_are_problems(service: Caller) -> None:
    for path in ("/v1", "/v1/", "/v1/nothing/at/all", "/nothing", "/"):
        await service.get(path, 404)
    refused = await service.call("PUT", "/v1/jobs", 405)
    assert refused.headers["allow"] == "GET, HEAD, POST"
    assert (await service.call("POST", "/healthz", 405)).headers["allow"] == "GET, HEAD"
    assert (await service.call("GET", "/v1/jobs/x/cancel", 405)).headers["allow"] == "POST"


@pytest.mark.parametrize("wait", ["61", "-1", "1.5", "x", ""])
async def test_no_long_poll_lasts_longer_than_a_minute(service: Caller, wait: str) -> None:
    refused = await service.get(f"/v1/events?wait={wait}", 422)
    assert refused["errors"][0]["pointer"] == "/wait"


async def test_a_refusal_frees_the_body_at_once(
    service: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by garbage collection, which may come much later: a body has up to 32 MiB."""
    raised: list[weakref.ref[Problem]] = []

    def parse(body: bytes) -> None:
        problem = Problem("no")
        raised.append(weakref.ref(problem))
        raise problem

    monkeypatch.setattr(request_body, "parse", parse)
    gc.disable()
    try:
        await service.post("/v1/jobs", 422, MINE)
        assert [problem() for problem in raised] == [None]
    finally:
        gc.enable()
