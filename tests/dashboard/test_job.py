"""The page of a job: its way, its files, its retries, and what a reader may do with it."""

from __future__ import annotations

import html
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard import formats
from orchestrator.dashboard.job_advice import advice_of
from orchestrator.dashboard.session import COOKIE
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.tables import job, push, trace
from orchestrator.foundation.admission import Admission, Limit, SharedAdmission
from orchestrator.foundation.states import JobState
from tests.api.test_support import finished_job, submitted, subscribed
from tests.harness.readers import Dashboard, Reader, dashboard

TEXTS = catalogue("en").texts
HOSTILE = "<script>alert('x')</script>\"'{{7*7}}"


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path) as found:
        yield found


async def post(pages: Dashboard, reader: Reader, path: str, status: int = 303, **form: str) -> str:
    """Send a form of a page; return where it leads, or else the page that it is answered with."""
    runtime = pages.api.runtime
    session = runtime.keys.read_session(reader.http.cookies[COOKIE], runtime.clock.now())
    data = {"form_token": runtime.keys.mint_form(session), **form}
    response = await reader.http.post(f"/dashboard{path}", data=data)
    assert response.status_code == status, response.text[:2000]
    return response.headers.get("location") or html.unescape(response.text)


async def output(pages: Dashboard, job_id: str, **file: Any) -> None:
    """Change the file of a job that has succeeded."""
    stored = {"id": None, "url": "https://cdn.example/v.mp4", "duration": 5.0, "expires_at": None,
              "watermark_url": None, "needs_key": False, "is_stated": True}  # fmt: skip
    files = {"videos": [stored | file], "images": [], "audios": []}
    await pages.api.run(sa.update(job).where(job.c.id == job_id).values(output=files))


async def test_a_job_shows_who_reported_and_refused_pushes(pages: Dashboard) -> None:
    api = pages.api
    await subscribed(api)
    job_id = (await api.open(metadata={"order": "991"}))["id"]
    at = api.clock.now()
    rejected = {"id": "psh_1", "account": "main", "job_id": job_id, "attempt": 1, "headers": {},
                "received_at": at, "dedupe_key": "k", "verified": False, "body": b"{}", "copies": 3,
                "outcome": "rejected: no signature matches"}  # fmt: skip
    await api.run(sa.insert(push).values(rejected))
    note = {"outcome": "refused", "reason": "busy"}
    await api.run(sa.insert(trace).values(job_id=job_id, at=at, kind="poll", detail=note))
    await api.finish(job_id)
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/jobs/{job_id}")
        for said in (
            "A push was refused: no signature matches.",
            "It came 3 times.",
            "A status query failed: busy.",
            "The job is succeeded, as reported by the vendor's push.",
            "The event job.succeeded is in the log.",
            "the delivery is pending now",
            '"order": "991"',
            TEXTS["job.reported_by"].format(source=TEXTS["source.push"]),
        ):
            assert said in text, said
        marks = re.findall(r'href="#e-([^"]+)"', text)
        assert marks
        assert all(f'<tr id="e-{mark}">' in text for mark in marks)


FILES = [
    ({}, ['src="https://cdn.example/v.mp4"', TEXTS["job.url.unknown"]], []),
    ({"watermark_url": "https://cdn.example/w.mp4"}, ['href="https://cdn.example/w.mp4"'], []),
    ({"expires_at": "2020-01-01T00:00:00.000Z"}, [TEXTS["job.url.over"]], ["<video"]),
    ({"expires_at": "2030-01-01T00:00:00.000Z"}, ["<video", TEXTS["job.url.until"]], []),
    ({"needs_key": True}, ['src="../../dashboard/jobs/{id}/outputs/0"', TEXTS["job.needs_key"]],
     ['src="https://cdn']),
    ({"url": "javascript:alert(1)"}, [], ["javascript:", "<video"]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "shown", "hidden"), FILES, ids=lambda value: str(value)[:40])
async def test_files_are_shown_by_the_address_that_a_browser_can_fetch(
    pages: Dashboard, file: dict[str, Any], shown: list[str], hidden: list[str]
) -> None:
    job_id = await finished_job(pages.api)
    await output(pages, job_id, **file)
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/jobs/{job_id}")
        assert [part for part in shown if part.format(id=job_id) not in text] == []
        assert [part for part in hidden if part in text] == []


async def test_a_file_that_needs_the_account_s_key_comes_through_us(pages: Dashboard) -> None:
    job_id = await finished_job(pages.api)
    await output(pages, job_id, needs_key=True)
    headers = {"content-type": "video/mp4", "content-range": "bytes 0-3/9"}
    pages.api.network.answer = lambda _: httpx.Response(206, headers=headers, content=b"mp4!")
    where = f"/dashboard/jobs/{job_id}/outputs/0"
    async with pages.reader(Scope.READ) as reader:
        part = await reader.http.get(where, headers={"range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"mp4!")
        assert part.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert pages.api.network.requests[-1].headers["range"] == "bytes=0-3"
        assert (await reader.http.get(f"{where}9")).status_code == 404
    async with pages.reader(None) as stranger:
        assert (await stranger.http.get(where)).status_code == 303


@pytest.mark.parametrize("code", ["vendor_failed", "input_missing"])
async def test_a_failure_is_told_in_the_vendor_s_words_with_advice(
    pages: Dashboard, code: str
) -> None:
    job_id = await finished_job(pages.api, JobState.FAILED)
    error = {"code": code, "message": "ours", "vendor_code": 1301, "vendor_message": HOSTILE}
    await pages.api.run(sa.update(job).where(job.c.id == job_id).values(error=error))
    async with pages.reader(Scope.READ) as reader:
        for path in (f"/jobs/{job_id}", "/jobs?status=failed"):
            raw = (await reader.http.get(f"/dashboard{path}")).text
            assert "<script>alert" not in raw
            assert html.escape("<script>alert(") in raw
        text = await reader.see(f"/jobs/{job_id}")
        assert f"<blockquote>{HOSTILE}</blockquote>" in text
        assert TEXTS[f"advice.{code}"] in text
        assert "<code>1301</code>" in text


@pytest.mark.parametrize(
    ("words", "billing", "keys"),
    [
        ({"vendor_message": "Failure to pass the risk control system"}, None,
         ("advice.moderated", "advice.moderated.unknown")),
        ({"vendor_code": "sensitive_words_detected"}, {"units": 3},
         ("advice.moderated", "advice.moderated.known")),
        ({"vendor_message": "\u5185\u5bb9\u5ba1\u6838\u672a\u901a\u8fc7"}, None,
         ("advice.moderated", "advice.moderated.unknown")),
        ({"vendor_message": "at risk of overload"}, None, ("advice.vendor_failed",)),
        ({"code": "vendor_auth", "vendor_message": "sensitive"}, None, ("advice.vendor_auth",)),
    ],
)  # fmt: skip
def test_a_rejection_by_moderation_has_its_own_advice(
    words: dict[str, Any], billing: Any, keys: tuple[str, ...]
) -> None:
    error = {"code": "vendor_failed", "vendor_code": None, "vendor_message": None, **words}
    assert advice_of({"error": error, "billing": billing}) == keys
    assert all(key in TEXTS for key in keys)


def test_a_job_without_an_error_has_no_advice_and_no_time_is_negative() -> None:
    assert advice_of({"error": None}) == ()
    assert formats.between("2026-11-20T10:00:11.390Z", "2026-11-20T10:00:00.000Z") == "0 ms"


async def test_hostile_texts_of_callers_are_text(pages: Dashboard) -> None:
    given = {"prompt": HOSTILE, "image_url": f"https://x.example/{HOSTILE}", HOSTILE: [HOSTILE]}
    told = {"model": HOSTILE, "vendor_task_id": HOSTILE, "vendor_status": HOSTILE}
    made = await pages.api.open(
        input=given, metadata={HOSTILE: HOSTILE}, external_task_id=HOSTILE, **told
    )
    async with pages.reader() as reader:
        for path in (f"/jobs/{made['id']}", "/jobs", f"/try?job={made['id']}"):
            raw = (await reader.http.get(f"/dashboard{path}")).text
            assert "<script>alert" not in raw, path
            assert "alert(" in raw, path


async def test_a_job_is_refreshed_and_canceled(pages: Dashboard) -> None:
    job_id = (await pages.api.open())["id"]
    async with pages.reader(Scope.WRITE) as reader:
        assert TEXTS["job.cancel.confirm"] in await reader.see(f"/jobs/{job_id}")
        back = f"../../../dashboard/jobs/{job_id}?notice=job."
        assert await post(pages, reader, f"/jobs/{job_id}/refresh") == f"{back}refresh.done"
        assert await post(pages, reader, f"/jobs/{job_id}/cancel") == f"{back}cancel.done"
        assert (await pages.api.job(job_id))["state"] == JobState.CANCELED
        text = await reader.see(f"/jobs/{job_id}?notice=job.cancel.done")
        assert TEXTS["notice.job.cancel.done"] in text
        assert "/cancel" not in text
        await post(pages, reader, f"/jobs/{job_id}/cancel", 409)
        await post(pages, reader, f"/jobs/{job_id}/explode", 404)


async def test_a_retry_that_exists_is_shown_before_another_is_paid_for(pages: Dashboard) -> None:
    job_id = await finished_job(pages.api, JobState.FAILED)
    async with pages.reader(Scope.WRITE) as reader:
        assert TEXTS["job.retry.cost"] in await reader.see(f"/jobs/{job_id}")
        first = (await post(pages, reader, f"/jobs/{job_id}/retry")).split("/")[-1].split("?")[0]
        text = await post(pages, reader, f"/jobs/{job_id}/retry", 409)
        assert TEXTS["job.again.exists"] in text
        assert f'href="../../../dashboard/jobs/{first}"' in text
        again = await post(pages, reader, f"/jobs/{job_id}/retry", again="1")
        second = again.split("/")[-1].split("?")[0]
        assert second not in (first, job_id)
        # The chain is shown in both directions.
        text = await reader.see(f"/jobs/{job_id}")
        assert first in text
        assert second in text
        assert f"{TEXTS['job.retry_of']} <a" in await reader.see(f"/jobs/{second}")
    assert len(await pages.api.rows("job")) == 3


async def test_an_event_is_sent_again(pages: Dashboard) -> None:
    await subscribed(pages.api)
    job_id = await finished_job(pages.api)
    (event,) = (await pages.api.get(f"/v1/events?job={job_id}"))["data"]
    async with pages.reader(Scope.WRITE) as reader:
        where = f"/jobs/{job_id}/events/{event['id']}/replay"
        assert where in await reader.see(f"/jobs/{job_id}")
        assert "notice=job.replay.done" in await post(pages, reader, where)
        await post(pages, reader, where.replace(event["id"], "evt_x"), 404)


@pytest.mark.parametrize("action", ["refresh", "cancel", "retry", "share", "events/{event}/replay"])
async def test_a_key_that_reads_does_nothing(pages: Dashboard, action: str) -> None:
    job_id = await finished_job(pages.api)
    (event,) = (await pages.api.get(f"/v1/events?job={job_id}"))["data"]
    async with pages.reader(Scope.READ) as reader:
        path = f"/jobs/{job_id}/{action.format(event=event['id'])}"
        assert path not in await reader.see(f"/jobs/{job_id}")
        await post(pages, reader, path, 403)
    assert len(await pages.api.rows("job")) == 1


async def test_a_long_timeline_goes_on(pages: Dashboard) -> None:
    job_id = (await pages.api.open())["id"]
    at, detail = pages.api.clock.now(), {"outcome": "processing"}
    rows = [{"job_id": job_id, "at": at, "kind": "poll", "detail": detail} for _ in range(201)]
    await pages.api.run(sa.insert(trace).values(rows))
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/jobs/{job_id}")
        assert text.count('<tr id="e-') == 200
        (later,) = re.findall(r'href="([^"]+)">' + TEXTS["job.way.later"], text)
        rest = await reader.http.get(f"/dashboard/jobs/{job_id}/../{later.split('/')[-1]}")
        assert rest.text.count('<tr id="e-') == 1


# -- shared


async def shared(pages: Dashboard, job_id: str) -> str:
    """Return the path of a link to a job, below the dashboard."""
    link = await pages.api.post(f"/v1/jobs/{job_id}/share", 201, {"days": 7})
    return str(link["url"]).partition("/dashboard")[2]


async def test_a_link_shows_one_job_without_a_key(pages: Dashboard) -> None:
    api = pages.api
    await subscribed(api)
    made = await submitted(api, metadata={"customer": "secret-customer"})
    await api.finish(made["id"])
    await output(pages, made["id"], needs_key=True)
    await api.post(f"/v1/jobs/{made['id']}/retry", 202, {"again": True})
    by = (await api.get(f"/v1/jobs/{made['id']}/timeline"))["data"][-1]["by"]
    async with pages.reader(Scope.WRITE) as writer:
        text = await post(pages, writer, f"/jobs/{made['id']}/share", 200, days="3")
        assert f"{api.runtime.base}/dashboard/shared/" in text
    path = await shared(pages, made["id"])
    async with pages.reader(None) as reader:
        response = await reader.http.get(f"/dashboard{path}")
        text = html.unescape(response.text)
        assert response.status_code == 200
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "The job is succeeded, as reported by the vendor's push." in text
        assert TEXTS["job.needs_key.public"] in text
        hidden = ("secret-customer", by, "/retry", "<nav aria", "/outputs/", "/deliveries", "sub_")
        assert [part for part in hidden if part in text] == []
        for elsewhere in (f"/jobs/{made['id']}", "/jobs"):
            assert (await reader.http.get(f"/dashboard{elsewhere}")).status_code == 303
        assert (await reader.http.post(f"/dashboard{path}", data={})).status_code == 405


async def test_a_link_that_is_forged_expired_or_of_no_job_shows_nothing(pages: Dashboard) -> None:
    job_id = await finished_job(pages.api)
    path, gone = await shared(pages, job_id), await shared(pages, await finished_job(pages.api))
    await pages.api.run(sa.update(job).where(job.c.id != job_id).values(id="job_gone"))
    async with pages.reader(None) as reader:
        await reader.see(path)
        for wrong in (path[:-3] + "abc", "/shared/x", gone):
            assert "ask for a new one" in await reader.see(wrong, 404)
        pages.api.clock.advance(7 * 86_400 + 1)
        await reader.see(path, 404)


async def test_a_link_opens_so_often_for_an_address_and_shows_no_notice(pages: Dashboard) -> None:
    path = await shared(pages, await finished_job(pages.api))
    async with pages.reader(None) as reader:
        assert TEXTS["notice.job.cancel.done"] not in await reader.see(
            f"{path}?notice=job.cancel.done"
        )
        statuses = [(await reader.http.get(f"/dashboard{path}")).status_code for _ in range(300)]
        assert statuses[:50] == [200] * 50
        assert statuses[-1] == 429
        pages.api.clock.advance(5)
        await reader.see(path)


async def test_a_page_takes_room_as_a_response_of_the_api_does(pages: Dashboard) -> None:
    given = {"prompt": "a cat", "extra": {"long": "<" * 30_000}}
    job_id = (await submitted(pages.api, input=given))["id"]
    async with pages.reader() as reader:
        runtime, total = pages.api.runtime, Admission(random.Random(1), Limit(9, 65_536), Limit(9))
        runtime.responses = SharedAdmission(total)
        response = await reader.http.get(f"/dashboard/jobs/{job_id}")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1


async def test_links_that_are_out_end_with_the_setting(tmp_path: Path) -> None:
    async with dashboard(tmp_path, dashboard={"share_days": 0}) as pages:
        job_id = await finished_job(pages.api)
        keys, now = pages.api.runtime.keys, pages.api.clock.now()
        token = keys.mint_share(job_id, now.replace(year=now.year + 1))
        async with pages.reader(None) as reader:
            await reader.see(f"/shared/{token}", 404)
        async with pages.reader(Scope.WRITE) as writer:
            await post(pages, writer, f"/jobs/{job_id}/share", 409)
