"""The paths of a job over real sockets: submission, push, missed push; for every vendor."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from orchestrator.simulator import Faults
from orchestrator.simulator.accounts import SIMULATED
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from orchestrator.simulator.subscriber import Received
from tests.harness.api_caller import until
from tests.harness.live import IMPATIENT, Live, live, order

pytestmark = pytest.mark.usefixtures("everywhere")

#: Its API has no callback, so it is always polled.
NEVER_PUSHES = "uniall"


async def test_a_submission_is_answered_at_once_and_reaches_the_vendor_once(tmp_path: Path) -> None:
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


async def test_a_push_becomes_a_signed_delivery_to_the_subscriber(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        job = await it.api.submit(order("kling", metadata={"order": "7"}))
        ended = await it.api.ended(job["id"])
        await it.delivered(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "push")
        assert ended["output"]["videos"][0]["url"].startswith("https://cdn.example.com/")
        assert it.types(job["id"]) == ["job.submitted", "job.processing", "job.succeeded"]
        assert all(each.verified for each in it.subscriber.received)
        events = (await it.api.get(f"/v1/events?job={job['id']}"))["data"]
        assert [event["sequence"] for event in events] == [3, 2, 1]
        assert events[0]["data"] == ended
        assert [push.status for push in it.world.pushes] == [200, 200, 200]


async def test_a_missed_push_is_replaced_by_a_poll_with_the_same_events(tmp_path: Path) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("kling"))
        ended = await it.api.ended(job["id"])
        await it.delivered(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "poll")
        assert it.types(job["id"])[-1] == "job.succeeded"
        assert all(each.verified for each in it.subscriber.received)
        lost = it.world.pushes[-1]
        assert (lost.kind, lost.state) == ("dropped", "succeeded")


async def test_a_push_after_a_poll_adds_at_most_what_it_charged(tmp_path: Path) -> None:
    accounts = {"agentsflare": {"poll": IMPATIENT}}
    async with live(tmp_path, accounts, faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("agentsflare"))
        ended = await it.api.ended(job["id"])
        late = await it.outside.post(it.world.pushes[-1].url, content=it.world.pushes[-1].body)
        assert (late.status_code, late.json()) == (200, {"ok": True})
        # The gateway's pushes state the charge, its answers do not.
        charged = await it.api.job(job["id"])
        assert charged["billing"]
        assert charged == ended | {"billing": charged["billing"], "version": ended["version"] + 1}
        again = await it.outside.post(it.world.pushes[-1].url, content=it.world.pushes[-1].body)
        assert again.status_code == 200
        assert await it.api.job(job["id"]) == charged
        assert it.types(job["id"]).count("job.succeeded") == 1


async def test_a_jobs_callback_url_gets_the_completion_signed_with_the_signing_key(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as it:
        it.subscriber.secrets.clear()
        key = (await it.api.get("/v1/signing-key"))["secret"]
        job = await it.api.submit(order("kling", callback_url=it.subscriber.url))
        await until(lambda: len(completions(it, job["id"])) == 2)
        it.subscriber.secrets.append(key)
        again = await it.api.submit(order("kling", callback_url=it.subscriber.url))
        await until(lambda: len(completions(it, again["id"])) == 2)
        assert not any(each.verified for each in it.deliveries(job["id"]))
        assert [each.type for each in it.deliveries(again["id"]) if each.verified] == [
            "job.succeeded"
        ]


def completions(it: Live, job_id: str) -> list[Received]:
    return [each for each in it.deliveries(job_id) if each.type == "job.succeeded"]


async def test_slack_gets_events_in_its_own_format(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        made = await it.api.subscribe(it.subscriber.slack_url, "job.succeeded", kind="slack")
        job = await it.api.submit(order("kling"))
        (message,) = await until(lambda: it.subscriber.slack, "Slack gets a message")
        assert job["id"] in str(message)
        (token,) = set(re.findall(r"/dashboard/shared/([^'\"]+)", str(message)))
        assert it.runtime.keys.open_share(token, it.runtime.clock.now()) == job["id"]
        assert "secret" not in made
        assert it.subscriber.slack_url not in str(made)


async def test_a_submission_may_wait_for_the_end_of_the_job(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        answer = await it.api.call("POST", "/v1/jobs", order("kling"), prefer="wait=20")
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert answer.headers["preference-applied"] == "wait=20"


async def run_all(it: Live, seconds: float) -> list[tuple[str, str, str]]:
    """Submit all sample jobs at once; return account, status and source of each end."""
    made = await asyncio.gather(*(it.api.submit(body) for _, _, body in SAMPLE_JOBS))
    ended = await asyncio.gather(*(it.api.ended(job["id"], seconds) for job in made))
    await until(
        lambda: len(it.subscriber.completions()) == len(SAMPLE_JOBS),
        "all completions are delivered",
    )
    assert set(it.subscriber.completions().values()) == {1}
    assert it.world.violations == []
    assert it.world.double_renders() == []
    assert len(it.world.renders) == len(SAMPLE_JOBS)
    assert all(each.verified for each in it.subscriber.received)
    return [(job["account"], job["status"], job["resolved_by"]) for job in ended]


async def test_every_capability_of_every_vendor_completes_by_push(tmp_path: Path) -> None:
    accounts = {name: {"poll": IMPATIENT} if name == NEVER_PUSHES else {} for name, _ in SIMULATED}
    odd = Faults(odd_shapes=0.5)
    async with live(tmp_path, accounts, render_seconds=0.3, faults=odd) as it:
        for account, status, resolved_by in await run_all(it, 30):
            assert status == "succeeded"
            assert resolved_by == ("poll" if account == NEVER_PUSHES else "push")


async def test_every_capability_completes_by_polls_alone_without_pushes(tmp_path: Path) -> None:
    accounts = {name: {"poll": IMPATIENT} for name, _ in SIMULATED}
    faults = Faults(drop_push=1.0, odd_shapes=0.5)
    async with live(tmp_path, accounts, render_seconds=0.3, faults=faults) as it:
        assert {(status, by) for _, status, by in await run_all(it, 30)} == {("succeeded", "poll")}
        assert {push.kind for push in it.world.pushes} == {"dropped"}


async def test_deliveries_verify_with_the_secret_of_their_subscriber_only(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        mine = it.subscriber.secrets[:]
        it.subscriber.secrets[:] = ["whsec_" + "A" * 43 + "="]
        job = await it.api.submit(order("kling"))
        await it.delivered(job["id"])
        assert not any(each.verified for each in it.subscriber.received)
        it.subscriber.secrets[:] = mine
        other = await it.api.submit(order("kling"))
        await it.delivered(other["id"])
        assert all(each.verified for each in it.deliveries(other["id"]))
