"""The three walks of a job, over real sockets: submit, push, missed push; and everything every vendor can do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.simulator import Faults
from orchestrator.simulator.accounts import SIMULATED
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from tests.harness.api_caller import until
from tests.harness.live import IMPATIENT, Live, live, order

pytestmark = pytest.mark.usefixtures("everywhere")

#: Its document knows no callback, so it is always asked.
NEVER_PUSHES = "uniall"


async def test_a_submitted_job_reaches_the_vendor_once_and_the_caller_at_once(
    tmp_path: Path,
) -> None:
    async with live(tmp_path, render_seconds=0.3) as it:
        answer = await it.api.call("POST", "/v1/jobs", order("kling", external_task_id="order-991"))
        job = answer.json()
        assert (answer.status_code, job["status"]) == (202, "queued")
        assert answer.headers["location"] == job["links"]["self"] == f"{it.url}/v1/jobs/{job['id']}"
        ended = await it.api.ended(job["id"])
        (render,) = it.world.renders
        assert (render.external_task_id, render.vendor_task_id) == (
            "order-991",
            ended["vendor_task_id"],
        )
        assert [entry["outcome"] for entry in await it.api.timeline(job["id"], "submit")] == [
            "begun",
            "accepted",
        ]
        assert it.world.violations == []


async def test_a_push_becomes_a_signed_event_at_the_subscribers_door(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        job = await it.api.submit(order("kling", metadata={"order": "7"}))
        ended = await it.api.ended(job["id"])
        await it.delivered(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "push")
        assert ended["output"]["videos"][0]["url"].startswith("https://cdn.example.com/")
        assert it.types(job["id"]) == ["job.submitted", "job.processing", "job.succeeded"]
        assert all(one.verified for one in it.subscriber.received)
        told = (await it.api.get(f"/v1/events?job={job['id']}"))["data"]
        assert [one["sequence"] for one in told] == [3, 2, 1]
        assert told[0]["data"] == ended
        assert [push.status for push in it.world.pushes] == [200, 200, 200]


async def test_a_missed_push_is_noticed_and_subscribers_cannot_tell(tmp_path: Path) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("kling"))
        ended = await it.api.ended(job["id"])
        await it.delivered(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "poll")
        assert it.types(job["id"])[-1] == "job.succeeded"
        assert all(one.verified for one in it.subscriber.received)
        lost = it.world.pushes[-1]
        assert (lost.kind, lost.state) == ("dropped", "succeeded")


async def test_a_push_that_comes_after_the_question_changes_nothing(tmp_path: Path) -> None:
    accounts = {"agentsflare": {"poll": IMPATIENT}}
    async with live(tmp_path, accounts, faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("agentsflare"))
        ended = await it.api.ended(job["id"])
        late = await it.outside.post(it.world.pushes[-1].url, content=it.world.pushes[-1].body)
        assert (late.status_code, late.json()) == (200, {"ok": True})
        assert await it.api.job(job["id"]) == ended
        assert [push["outcome"] for push in await it.api.timeline(job["id"], "push")] == [
            "nothing_new"
        ]


async def test_a_jobs_own_callback_url_is_told_and_signed_with_the_signing_key(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as it:
        it.subscriber.secrets.clear()
        key = (await it.api.get("/v1/signing-key"))["secret"]
        job = await it.api.submit(order("kling", callback_url=it.subscriber.url))
        await until(
            lambda: (
                len([one for one in it.deliveries(job["id"]) if one.type == "job.succeeded"]) == 2
            )
        )
        it.subscriber.secrets.append(key)
        again = await it.api.submit(order("kling", callback_url=it.subscriber.url))
        await until(
            lambda: (
                len([one for one in it.deliveries(again["id"]) if one.type == "job.succeeded"]) == 2
            )
        )
        assert not any(one.verified for one in it.deliveries(job["id"]))
        assert [one.type for one in it.deliveries(again["id"]) if one.verified] == ["job.succeeded"]


async def test_slack_is_told_in_its_own_form(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        made = await it.api.subscribe(it.subscriber.slack_url, "job.succeeded", kind="slack")
        job = await it.api.submit(order("kling"))
        (message,) = await until(lambda: it.subscriber.slack, "Slack is told")
        assert job["id"] in str(message)
        assert "secret" not in made
        assert it.subscriber.slack_url not in str(made)


async def test_a_caller_may_wait_for_the_end_in_the_submission_itself(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        answer = await it.api.call("POST", "/v1/jobs", order("kling"), prefer="wait=20")
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert answer.headers["preference-applied"] == "wait=20"


async def everything(it: Live, seconds: float) -> list[tuple[str, str, str]]:
    """Submit every order of every simulated account at once; return account, status and who said so."""
    made = await asyncio.gather(*(it.api.submit(body) for _, _, body in SAMPLE_JOBS))
    ended = await asyncio.gather(*(it.api.ended(job["id"], seconds) for job in made))
    await until(lambda: len(it.subscriber.completions()) == len(SAMPLE_JOBS), "everything is told")
    assert set(it.subscriber.completions().values()) == {1}
    assert it.world.violations == []
    assert it.world.double_renders() == []
    assert len(it.world.renders) == len(SAMPLE_JOBS)
    assert all(one.verified for one in it.subscriber.received)
    return [(job["account"], job["status"], job["resolved_by"]) for job in ended]


async def test_everything_every_vendor_can_do_completes_by_push(tmp_path: Path) -> None:
    accounts = {name: {"poll": IMPATIENT} if name == NEVER_PUSHES else {} for name, _ in SIMULATED}
    async with live(tmp_path, accounts, render_seconds=0.3) as it:
        for account, status, resolved_by in await everything(it, 30):
            assert status == "succeeded"
            assert resolved_by == ("poll" if account == NEVER_PUSHES else "push")


async def test_everything_completes_by_questions_alone_when_no_push_arrives(tmp_path: Path) -> None:
    accounts = {name: {"poll": IMPATIENT} for name, _ in SIMULATED}
    async with live(tmp_path, accounts, render_seconds=0.3, faults=Faults(drop_push=1.0)) as it:
        assert {(status, by) for _, status, by in await everything(it, 30)} == {
            ("succeeded", "poll")
        }
        assert {push.kind for push in it.world.pushes} == {"dropped"}


async def test_deliveries_verify_with_their_own_subscribers_secret_and_no_other(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as it:
        mine = it.subscriber.secrets[:]
        it.subscriber.secrets[:] = ["whsec_" + "A" * 43 + "="]
        job = await it.api.submit(order("kling"))
        await it.delivered(job["id"])
        assert not any(one.verified for one in it.subscriber.received)
        it.subscriber.secrets[:] = mine
        other = await it.api.submit(order("kling"))
        await it.delivered(other["id"])
        assert all(one.verified for one in it.deliveries(other["id"]))
