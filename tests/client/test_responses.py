"""Requests and answers as values: what is sent, what an answer becomes, and which error a refusal is."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from orchestrator import __version__
from orchestrator.client import UNSET, errors
from orchestrator.client.connection import MAX_BODY, Target, way
from orchestrator.client.pages import AsyncPages, Listing, Pages
from orchestrator.client.requests import Request, json_fields, path, split_list
from orchestrator.client.responses import api_error, parse_response, read
from orchestrator.client.sync_async import run_sync
from orchestrator.foundation.errors import ConfigError
from orchestrator.schemas import Job, Page
from orchestrator.schemas.base import document
from tests.harness.scripted_client import Said, a_job, said, script, scripted

GET = Request("GET", "/v1/jobs")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid), (401, errors.Unauthorized), (403, errors.Forbidden), (404, errors.NotFound),
        (405, errors.ApiError), (409, errors.Conflict), (410, errors.Gone), (413, errors.Invalid),
        (415, errors.Invalid), (422, errors.Invalid), (429, errors.RateLimited), (500, errors.ApiError),
        (502, errors.ApiError), (503, errors.Unavailable), (504, errors.Unavailable),
    ],
)  # fmt: skip
def test_every_status_is_its_error(status: int, kind: type[errors.ApiError]) -> None:
    said_too = {"job_id": "job_1", "next_cursor": "evt_1"}
    problem = {"title": "No", "code": "c", "detail": "because", "request_id": "req_1", **said_too}
    with pytest.raises(
        errors.ApiError, match=rf"GET /v1/jobs: No \({status}, c\): because \[req_1\]"
    ) as refused:
        run_sync(scripted(said(problem, status), retries=0).call(GET))
    error = refused.value
    assert type(error) is kind
    assert (error.status, error.code, error.title) == (status, "c", "No")
    assert (error.detail, error.request_id) == ("because", "req_1")
    assert error.document == problem
    if isinstance(error, errors.Conflict):
        assert error.job_id == "job_1"
    if isinstance(error, errors.Gone):
        assert error.next_cursor == "evt_1"


def test_all_that_is_wrong_with_a_request_is_said_once() -> None:
    faults = [
        {"pointer": f"/{one}", "code": "missing", "message": f"{one} is missing"}
        for one in ("a", "b")
    ]
    problem = {
        "title": "Not valid",
        "code": "v",
        "detail": "/a: a is missing",
        "errors": [*faults, "nonsense", {}],
    }
    with pytest.raises(errors.Invalid) as refused:
        run_sync(scripted(said(problem, 422)).call(GET))
    assert (
        str(refused.value) == "GET /v1/jobs: Not valid (422, v): /a: a is missing; /b: b is missing"
    )
    assert [one.pointer for one in refused.value.errors][:2] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Said(200, {}, [b"<html>"]), "not JSON"),
        (Said(404, {}, [b"<html>"]), "answered 404 with something that is not JSON"),
        (Said(200, {}, [b"[" * 100_000]), "not JSON"),
        (Said(302, {"location": "https://login.example"}), r"redirects to https://login\.example"),
        (Said(200, {}, [b" " * (MAX_BODY // 2)] * 3), "more than 32 MiB"),
    ],
)
def test_what_is_not_ours_is_said_to_be_none(answer: Said, why: str) -> None:
    with pytest.raises(errors.NotOurs, match=why):
        run_sync(scripted(answer).call(GET))


@pytest.mark.parametrize("document", [None, [], {}, {"object": "job"}, a_job(status=7)])
def test_another_shape_is_not_ours_either(document: Any) -> None:
    with pytest.raises(errors.NotOurs, match="no Job"):
        read(Job, run_sync(scripted(said(document)).call(GET)))


def test_a_word_of_a_newer_server_is_plain_text() -> None:
    job = read(Job, run_sync(scripted(said(a_job(status="paused", resolved_by="omen"))).call(GET)))
    assert (job.status, job.resolved_by, job.is_final) == ("paused", "omen", False)
    assert document(job)["status"] == "paused"


def test_an_answer_without_a_body_has_no_document() -> None:
    for status in (204, 304):
        assert parse_response(GET, "s", status, httpx.Headers(), b"").document is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "5"}, 5),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 7),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:00 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 -0000", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 7),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:07 GMT"}, None), ({"retry-after": "999999999"}, 86400),
        ({"retry-after": "soon"}, None), ({"retry-after": "-1"}, None), ({"retry-after": "1e9"}, None), ({}, None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date_by_the_servers_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert api_error(GET, 429, httpx.Headers(headers), None).retry_after == seconds


def test_what_is_given_is_sent_as_the_api_takes_it() -> None:
    at = datetime(2026, 11, 20, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    request = Request(
        "GET", "/v1/jobs", query={"a": at, "b": ["x", "y"], "c": None, "d": True, "e": 5}
    )
    assert request.params() == {"a": "2026-11-20T10:30:00Z", "b": "x,y", "d": "true", "e": "5"}
    assert json_fields(a=at, b=None, c=UNSET, d=0, e="", f=("x",), g={"h": at}) == {
        "a": "2026-11-20T10:30:00Z", "d": 0, "e": "", "f": ["x"], "g": {"h": "2026-11-20T10:30:00Z"},
    }  # fmt: skip
    assert json_fields(a=datetime(2026, 11, 20, tzinfo=UTC)) == {"a": "2026-11-20T00:00:00Z"}
    assert [split_list(one) for one in ("a,b", ["a"], ("a",), None)] == [
        ["a", "b"],
        ["a"],
        ["a"],
        None,
    ]


def test_an_id_cannot_lead_elsewhere() -> None:
    assert path("jobs", "../keys?x#y") == "/v1/jobs/..%2Fkeys%3Fx%23y"
    for part in ("", ".", ".."):
        with pytest.raises(ValueError, match="no id"):
            path("jobs", part)
    with pytest.raises(ValueError, match="slash"):
        Request("GET", "@evil.example/")


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [
        (GET, 0), (Request("GET", "/", headers={"Prefer": "respond-async, wait=45"}), 45),
        (Request("GET", "/", query={"wait": 20}), 20), (Request("GET", "/", query={"wait": "soon"}), 0),
    ],
)  # fmt: skip
def test_what_is_to_be_held_is_waited_for(request_: Request, seconds: float) -> None:
    assert request_.hold == seconds


@pytest.mark.parametrize("server", ["ftp://x", "http://", "x:8080", "http://[::1", "http://a:b:c"])
def test_a_server_that_is_no_url_is_refused(server: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        Target.of(server, None, None)


def test_a_key_that_cannot_be_one_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        Target.of(None, "orc_\nsecret", None)
    assert "secret" not in str(refused.value)


def test_server_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = f"orchestrator-python/{__version__}"
    monkeypatch.setenv("ORCHESTRATOR_SERVER", "https://there.example/")
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "orc_env")
    assert Target.of(None, None, None) == Target("https://there.example", "orc_env", agent)
    assert Target.of("http://here", "orc_x", None) == Target("http://here", "orc_x", agent)
    monkeypatch.delenv("ORCHESTRATOR_SERVER")
    monkeypatch.delenv("ORCHESTRATOR_API_KEY")
    assert Target.of(None, None, None) == Target("http://127.0.0.1:8080", None, agent)


@pytest.mark.parametrize(
    ("server", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("http://127.example", False),
    ],
)
def test_no_proxy_is_asked_the_way_to_this_machine(server: str, loopback: bool) -> None:
    assert way(server)["trust_env"] is not loopback


def test_certificates_are_checked_wherever_there_are_any() -> None:
    """Without https there are none, and reading the authorities takes longer than most calls."""
    assert way("HTTPS://there.example")["verify"] is True
    none = way("http://there.example")["verify"]
    assert isinstance(none, ssl.SSLContext)
    assert none.verify_mode is ssl.CERT_REQUIRED
    assert none.cert_store_stats()["x509"] == 0


def page(cursor: str | None, *ids: str, more: bool = True) -> Said:
    return said(
        {
            "object": "list",
            "data": [a_job(id=one) for one in ids],
            "has_more": more,
            "next_cursor": cursor,
        }
    )


async def test_a_list_is_read_page_by_page_and_only_as_far_as_it_is_read() -> None:
    # A page may be empty and yet not the last.
    answers = page("job_2", "job_1", "job_2"), page("job_5"), page(None, "job_6", more=False)
    connection = scripted(*answers)
    jobs = Pages(Listing(connection, Page[Job], Request("GET", "/v1/jobs", query={"limit": 2})))
    reading = iter(jobs)
    assert ([next(reading).id, next(reading).id], len(script(connection).requests)) == (
        ["job_1", "job_2"],
        1,
    )
    assert [one.id for one in reading] == ["job_6"]
    cursors = [request.query.get("after") for request in script(connection).requests]
    assert cursors == [None, "job_2", "job_5"]
    listing = Listing(scripted(*answers), Page[Job], GET)
    assert [one.id async for one in AsyncPages(listing)] == ["job_1", "job_2", "job_6"]


def test_a_page_can_be_asked_for_by_its_cursor() -> None:
    connection = scripted(page("job_9", "job_1"))
    found = Pages(Listing(connection, Page[Job], GET)).page(after="job_0")
    assert (found.next_cursor, script(connection).requests[0].query["after"]) == ("job_9", "job_0")


def test_a_cursor_that_stands_still_ends_a_list() -> None:
    connection = scripted(page("job_1", "job_1"), page("job_1", "job_1"))
    assert len(list(Pages(Listing(connection, Page[Job], GET)))) == 2
