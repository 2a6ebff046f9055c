"""Requests and responses as values: what is sent, how a response is parsed, which error it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from orchestrator import __version__
from orchestrator.client import UNSET, errors
from orchestrator.client.connection import MAX_BODY, Target
from orchestrator.client.pages import AsyncPages, Pages
from orchestrator.client.requests import Request, json_fields, path, split_list
from orchestrator.client.responses import api_error, parse_response, read
from orchestrator.client.sync_async import run_sync
from orchestrator.foundation.errors import ConfigError
from orchestrator.schemas import Job, Page, TimelineEntry
from orchestrator.schemas.base import document
from tests.harness.scripted_client import Response, job_document, json_response, script, scripted

GET = Request("GET", "/v1/jobs")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid), (401, errors.Unauthorized), (403, errors.Forbidden),
        (404, errors.NotFound), (405, errors.ApiError), (409, errors.Conflict), (410, errors.Gone),
        (413, errors.Invalid), (415, errors.Invalid), (422, errors.Invalid),
        (429, errors.RateLimited), (500, errors.ApiError), (502, errors.ApiError),
        (503, errors.Unavailable), (504, errors.Unavailable),
    ],
)  # fmt: skip
def test_every_status_has_its_error_class(status: int, kind: type[errors.ApiError]) -> None:
    extra = {"job_id": "job_1", "next_cursor": "evt_1"}
    problem = {"title": "No", "code": "c", "detail": "because", "request_id": "req_1", **extra}
    with pytest.raises(
        errors.ApiError, match=rf"GET /v1/jobs: No \({status}, c\): because \[req_1\]"
    ) as refused:
        run_sync(scripted(json_response(problem, status), retries=0).call(GET))
    error = refused.value
    assert type(error) is kind
    assert (error.status, error.code, error.title) == (status, "c", "No")
    assert (error.detail, error.request_id) == ("because", "req_1")
    assert error.document == problem
    if isinstance(error, errors.Conflict):
        assert error.job_id == "job_1"
    if isinstance(error, errors.Gone):
        assert error.next_cursor == "evt_1"


def test_the_message_has_every_fault_once() -> None:
    faults = [
        {"pointer": f"/{name}", "code": "missing", "message": f"{name} is missing"}
        for name in ("a", "b")
    ]
    problem = {
        "title": "Not valid",
        "code": "v",
        "detail": "/a: a is missing",
        "errors": [*faults, "nonsense", {}],
    }
    with pytest.raises(errors.Invalid) as refused:
        run_sync(scripted(json_response(problem, 422)).call(GET))
    assert (
        str(refused.value) == "GET /v1/jobs: Not valid (422, v): /a: a is missing; /b: b is missing"
    )
    assert [fault.pointer for fault in refused.value.errors][:2] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(200, {}, [b"<html>"]), "not JSON"),
        (Response(404, {}, [b"<html>"]), "answered 404 with something that is not JSON"),
        (Response(200, {}, [b"[" * 100_000]), "not JSON"),
        (
            Response(302, {"location": "https://login.example"}),
            r"redirects to https://login\.example",
        ),
        (Response(200, {}, [b" " * (MAX_BODY // 2)] * 3), "more than 32 MiB"),
    ],
)
def test_a_response_that_is_not_from_an_orchestrator_is_an_error(
    response: Response, reason: str
) -> None:
    with pytest.raises(errors.NotOurs, match=reason):
        run_sync(scripted(response).call(GET))


@pytest.mark.parametrize("document", [None, [], {}, {"object": "job"}, job_document(status=7)])
def test_a_document_with_another_schema_is_an_error(document: Any) -> None:
    with pytest.raises(errors.NotOurs, match="no Job"):
        read(Job, run_sync(scripted(json_response(document)).call(GET)))


def test_an_unknown_enum_value_of_a_newer_server_is_a_string() -> None:
    job = read(
        Job,
        run_sync(
            scripted(json_response(job_document(status="paused", resolved_by="omen"))).call(GET)
        ),
    )
    assert (job.status, job.resolved_by, job.is_final) == ("paused", "omen", False)
    assert document(job)["status"] == "paused"


def test_a_response_without_a_body_has_no_document() -> None:
    for status in (204, 304):
        assert parse_response(GET, "s", status, httpx.Headers(), b"").document is None


@pytest.mark.parametrize("fields", [{"kind": "route"}, {"kind": "push", "later": [1]}])
def test_an_entry_of_a_newer_server_is_read(fields: dict[str, Any]) -> None:
    entry = {"id": "1", "at": "2026-11-20T10:00:00.000Z", **fields}
    read = TimelineEntry.model_validate(entry)
    assert (read.kind, read.model_extra) == (fields.pop("kind"), fields)


DATE = "Fri, 20 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "5"}, 5),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 GMT", "date": DATE}, 7),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 -0000", "date": DATE}, 7),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 GMT"}, None),
        ({"retry-after": "172800"}, 172800),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e9"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_by_the_servers_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert api_error(GET, 429, httpx.Headers(headers), None).retry_after == seconds


def test_arguments_are_converted_for_the_api() -> None:
    at = datetime(2026, 11, 20, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    request = Request(
        "GET", "/v1/jobs", query={"a": at, "b": ["x", "y"], "c": None, "d": True, "e": 5}
    )
    assert request.params() == {"a": "2026-11-20T10:30:00Z", "b": "x,y", "d": "true", "e": "5"}
    assert json_fields(a=at, b=None, c=UNSET, d=0, e="", f=("x",), g={"h": at}) == {
        "a": "2026-11-20T10:30:00Z",
        "d": 0,
        "e": "",
        "f": ["x"],
        "g": {"h": "2026-11-20T10:30:00Z"},
    }
    assert json_fields(a=datetime(2026, 11, 20, tzinfo=UTC)) == {"a": "2026-11-20T00:00:00Z"}
    assert [split_list(values) for values in ("a,b", ["a"], ("a",))] == [["a", "b"], ["a"], ["a"]]
    assert split_list(None) is None


def test_an_id_cannot_change_the_path() -> None:
    assert path("jobs", "../keys?x#y") == "/v1/jobs/..%2Fkeys%3Fx%23y"
    for part in ("", ".", ".."):
        with pytest.raises(ValueError, match="no id"):
            path("jobs", part)
    with pytest.raises(ValueError, match="slash"):
        Request("GET", "@evil.example/")


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [
        (GET, 0),
        (Request("GET", "/", headers={"Prefer": "respond-async, wait=45"}), 45),
        (Request("GET", "/", query={"wait": 20}), 20),
        (Request("GET", "/", query={"wait": "soon"}), 0),
    ],
)
def test_the_hold_of_a_request_is_read_from_its_header_or_query(
    request_: Request, seconds: float
) -> None:
    assert request_.hold == seconds


@pytest.mark.parametrize("server", ["ftp://x", "http://", "x:8080", "http://[::1", "http://a:b:c"])
def test_a_server_that_is_not_a_url_is_refused(server: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        Target.of(server, None, None)


def test_an_invalid_key_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        Target.of(None, "orc_\nsecret", None)
    assert "secret" not in str(refused.value)


def test_server_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = f"orchestrator-python/{__version__}"
    monkeypatch.setenv("ORCHESTRATOR_SERVER", "https://there.example/")
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "orc_env")
    assert Target.of(None, None, None) == Target("https://there.example", "orc_env", agent)
    assert Target.of("http://here", "orc_x", None) == Target("http://here", "orc_x", agent)
    # A key of the environment belongs to the server of the environment, by scheme, host and port.
    assert Target.of("https://there.example:443/prefix", None, None).key == "orc_env"
    for other in ("http://there.example", "https://there.example:444", "https://there.example.net"):
        assert Target.of(other, None, None).key is None
    monkeypatch.setenv("ORCHESTRATOR_SERVER", "not a URL")
    assert Target.of("http://here", None, None).key is None
    monkeypatch.delenv("ORCHESTRATOR_SERVER")
    monkeypatch.delenv("ORCHESTRATOR_API_KEY")
    assert Target.of(None, None, None) == Target("http://127.0.0.1:8080", None, agent)


def page(cursor: str | None, *ids: str, more: bool = True) -> Response:
    return json_response(
        {
            "object": "list",
            "data": [job_document(id=job_id) for job_id in ids],
            "has_more": more,
            "next_cursor": cursor,
        }
    )


async def test_a_list_requests_a_page_only_when_it_is_needed() -> None:
    # An empty page may be followed by others.
    responses = page("job_2", "job_1", "job_2"), page("job_5"), page(None, "job_6", more=False)
    connection = scripted(*responses)
    jobs = Pages(AsyncPages(connection, Page[Job], Request("GET", "/v1/jobs", query={"limit": 2})))
    reading = iter(jobs)
    assert ([next(reading).id, next(reading).id], len(script(connection).requests)) == (
        ["job_1", "job_2"],
        1,
    )
    assert [job.id for job in reading] == ["job_6"]
    cursors = [request.query.get("after") for request in script(connection).requests]
    assert cursors == [None, "job_2", "job_5"]
    listing = AsyncPages(scripted(*responses), Page[Job], GET)
    assert [job.id async for job in listing] == ["job_1", "job_2", "job_6"]


def test_a_page_is_requested_by_its_cursor() -> None:
    connection = scripted(page("job_9", "job_1"))
    found = Pages(AsyncPages(connection, Page[Job], GET)).page(after="job_0")
    assert (found.next_cursor, script(connection).requests[0].query["after"]) == ("job_9", "job_0")


def test_a_cursor_that_does_not_move_ends_a_list() -> None:
    connection = scripted(page("job_1", "job_1"), page("job_1", "job_1"))
    assert len(list(Pages(AsyncPages(connection, Page[Job], GET)))) == 2
