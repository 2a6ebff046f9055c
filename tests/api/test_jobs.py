"""Jobs over HTTP: listed, shown, refreshed, canceled and retried."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.database.tables import job as table
from orchestrator.engine.poll import Poller
from orchestrator.foundation.states import JobState
from orchestrator.jobs.ledger import Note
from tests.api.test_support import TWO, Caller, calling, eventually, submitted

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_jobs_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = [(await submitted(api))["id"] for _ in range(5)][::-1]
        first = await api.call("GET", "/v1/jobs?limit=2&account=main", 200)
        page = first.json()
        assert page.keys() == {"object", "data", "has_more", "next_cursor"}
        assert [job["id"] for job in page["data"]] == made[:2]
        assert (page["object"], page["has_more"], page["next_cursor"]) == ("list", True, made[1])
        onward = first.links["next"]["url"].removeprefix(api.runtime.base)
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
        api.clock.advance(10)
        late = await submitted(api, account="dream", model="b")
        await api.finish(late["id"])

        async def ids(query: str) -> list[str]:
            return [job["id"] for job in (await api.get(f"/v1/jobs?{query}"))["data"]]

        assert (
            await ids("status=queued")
            == await ids("account=main")
            == await ids("model=a")
            == [early["id"]]
        )
        assert await ids("external_task_id=e-1") == [early["id"]]
        assert await ids("status=queued,succeeded") == [late["id"], early["id"]]
        assert (
            await ids("resolved_by=push")
            == await ids(f"created_after={early['created_at']}")
            == [late["id"]]
        )
        assert await ids("created_after=2026-11-20T11:00:00%2B02:00") == [late["id"], early["id"]]
        assert await ids("account=other") == []


async def test_jobs_are_found_by_the_vendors_id_an_error_and_metadata(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        order = {"order": "991", "Note": 'a "b": c, \\ d=e', "deep": {"shop": "x"}}
        named = await failed(api, metadata=order)
        await api.run(sa.update(table).where(table.c.id == named).values(vendor_task_id="t-1"))
        other = await failed(api, metadata={"order": "9911", "note": "a"})
        good = (await submitted(api, metadata={"order": "991"}))["id"]

        async def ids(**query: str) -> list[str]:
            page = (await api.call("GET", "/v1/jobs", 200, params=query)).json()
            assert not page["has_more"]
            return [job["id"] for job in page["data"]]

        assert await ids(vendor_task_id="t-1") == [named]
        assert await ids(vendor_task_id="t") == []
        assert await ids(error="vendor_failed") == [other, named]
        assert await ids(error="vendor_failed", status="succeeded") == []
        assert await ids(error="vendor") == await ids(error="vendor_refused") == []
        assert await ids(metadata="order=991") == [good, named]
        assert await ids(metadata="order=991", error="vendor_failed") == [named]
        assert await ids(metadata='Note=a "b": c, \\ d=e') == [named]
        assert await ids(metadata="shop=x") == [named]
        for missing in ("note=A", "b=", "order=99", "order=", "order=%", "_rder=991"):
            assert await ids(metadata=missing) == [], missing
        for wrong in ("error=Vendor", "metadata=order", "metadata==x", "vendor_task_id="):
            await api.get(f"/v1/jobs?{wrong}", 422)


async def test_jobs_are_found_by_their_fairness_key(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        plain = (await submitted(api))["id"]
        mine = [(await submitted(api, fairness_key="shop 7"))["id"] for _ in range(2)]
        await submitted(api, fairness_key="shop 8")
        key = (await api.job(plain))["api_key"]

        async def ids(**query: str) -> list[str]:
            page = (await api.call("GET", "/v1/jobs", 200, params=query)).json()
            return [job["id"] for job in page["data"]]

        assert await ids(fairness_key="shop 7") == mine[::-1]
        assert await ids(fairness_key="shop 7", status="queued", limit="1") == mine[1:]
        assert await ids(fairness_key="shop") == []
        assert await ids(fairness_key=key) == [plain]
        await api.get("/v1/jobs?fairness_key=", 422)
        await api.post(f"/v1/jobs/{mine[0]}/cancel", 200)
        body = {"jobs": {"status": ["canceled"], "fairness_key": "shop 7"}, "dry_run": True}
        shown = await api.post("/v1/replays", 200, body)
        assert (shown["count"], shown["jobs"]["fairness_key"]) == (1, "shop 7")


async def test_the_timeline_is_complete_and_oldest_first(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await api.post("/v1/subscribers", 201, {"url": "https://my.app/hook", "types": ["job.*"]})
        job = await submitted(api)
        note = Note(
            job["id"], "submit", {"attempt": 1, "outcome": "begun", "kind": "no", "at": "no"}
        )
        await api.runtime.store.write(api.runtime.ledger.note, [note], api.clock.now())
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


async def test_a_canceled_job_stays_canceled(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        canceled = await api.post(f"/v1/jobs/{job['id']}/cancel", 200)
        assert (canceled["status"], canceled["resolved_by"]) == ("canceled", "operator")
        assert (await api.post(f"/v1/jobs/{job['id']}/cancel", 409))["job_id"] == job["id"]
        await api.finish(job["id"])
        assert (await api.get(f"/v1/jobs/{job['id']}"))["status"] == "canceled"
        (note_,) = [
            entry
            for entry in (await api.get(f"/v1/jobs/{job['id']}/timeline"))["data"]
            if entry["kind"] == "operator"
        ]
        assert note_["action"] == "cancel"


async def test_a_final_job_can_be_retried_as_a_new_job(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(
            api,
            external_task_id="a",
            metadata={"k": "v"},
            callback_url="https://my.app/x",
            deadline=99,
        )
        assert (await api.post(f"/v1/jobs/{job['id']}/retry", 409))["code"] == "conflict"
        await api.finish(job["id"], JobState.FAILED)
        headers = {"idempotency-key": "again"}
        response = await api.call("POST", f"/v1/jobs/{job['id']}/retry", 202, headers=headers)
        again = response.json()
        assert response.headers["location"] == again["links"]["self"]
        assert (again["retry_of"], again["status"], again["external_task_id"]) == (
            job["id"],
            "queued",
            again["id"],
        )
        for same in ("account", "model", "capability", "input", "metadata"):
            assert again[same] == job[same]
        row = await api.job(again["id"])
        assert api.runtime.keys.open_address(str(row["callback_url"])) == "https://my.app/x"
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == pytest.approx(
            99, abs=0.01
        )
        repeated = await api.call("POST", f"/v1/jobs/{job['id']}/retry", 202, headers=headers)
        assert repeated.json()["id"] == again["id"]
        await api.post(f"/v1/jobs/{job['id']}/retry", 422, {"colour": "red"})


async def test_a_refresh_queries_the_vendor_and_returns_the_job_after_that(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await api.open(state=JobState.PROCESSING, vendor_task_id="t-1")
        refreshing = asyncio.create_task(api.call("POST", f"/v1/jobs/{job['id']}/refresh", 200))
        stage = api.runtime.assemble(Poller)
        questions = await eventually(lambda: stage.take(1))
        assert not refreshing.done()
        made = {"videos": [{"url": "https://v/x.mp4", "duration": "5"}]}
        vendor_response = {
            "code": 0,
            "data": {"task_id": "t-1", "task_status": "succeed", "task_result": made},
        }
        api.network.answer = lambda _: httpx.Response(200, json=vendor_response)
        await stage.work(questions[0])
        done = (await refreshing).json()
        assert (done["status"], done["resolved_by"]) == ("succeeded", "poll")
        assert (await api.post(f"/v1/jobs/{job['id']}/refresh", 200))["status"] == "succeeded"


async def test_a_refresh_of_a_queued_job_returns_at_once(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        assert (await api.post(f"/v1/jobs/{job['id']}/refresh", 200))["status"] == "queued"


async def failed(api: Caller, **values: Any) -> str:
    """Return the id of a failed job."""
    job_id = str((await submitted(api, **values))["id"])
    await api.finish(job_id, JobState.FAILED)
    return job_id


async def test_the_same_work_is_not_retried_beside_a_live_or_successful_retry(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as api:
        first = await failed(api)
        second = (await api.post(f"/v1/jobs/{first}/retry", 202))["id"]
        for state in (JobState.FAILED, JobState.SUCCEEDED):
            refused = await api.post(f"/v1/jobs/{first}/retry", 409)
            assert (refused["code"], refused["job_id"]) == ("already_retried", second)
            await api.post(f"/v1/jobs/{first}/retry", 409, {"dry_run": True})
            await api.finish(second, state)
            if state is JobState.FAILED:
                # A retry of the retry is the same work too.
                second = (await api.post(f"/v1/jobs/{second}/retry", 202))["id"]
        assert (await api.post(f"/v1/jobs/{first}/retry", 409))["job_id"] == second
        assert (await api.get(f"/v1/jobs/{second}"))["retry_root"] == first
        third = await api.post(f"/v1/jobs/{first}/retry", 202, {"again": True})
        numbers = {row["id"]: row["retry_number"] for row in await api.rows("job")}
        assert (third["retry_of"], sorted(filter(None, numbers.values()))) == (first, [1, 2, 3])


async def test_a_dry_run_of_a_retry_creates_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first = await failed(api)
        assert (await api.post(f"/v1/jobs/{first}/retry", 200, {"dry_run": True}))["id"] == first
        assert len(await api.rows("job")) == 1


@pytest.mark.parametrize("again", [False, True])
async def test_concurrent_retries_make_one_job_unless_asked_for_more(
    tmp_path: Path, again: bool
) -> None:
    async with calling(tmp_path) as api:
        first = await failed(api)
        answers = await asyncio.gather(
            *(api.http.post(f"/v1/jobs/{first}/retry", json={"again": again}) for _ in range(6))
        )
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == ([202] * 6 if again else [202, *[409] * 5])
        numbers = [row["retry_number"] for row in await api.rows("job") if row["retry_of"]]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


async def test_a_retry_repeated_with_its_idempotency_key_is_the_same_job(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first = await failed(api)
        headers = {"idempotency-key": "k"}
        made = [await api.post(f"/v1/jobs/{first}/retry", 202, headers=headers) for _ in range(2)]
        assert made[0]["id"] == made[1]["id"]
