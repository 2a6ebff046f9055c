"""Crashes at each step of a job, over real sockets: the next process completes the job."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.submit import Submitter
from orchestrator.simulator import Faults
from tests.harness.api_caller import Json, eventually, until
from tests.harness.live import IMPATIENT, full_disk, live, order, restartable

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_a_submission_that_failed_before_its_commit_leaves_nothing_and_may_be_repeated(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as it:
        with full_disk(tmp_path):
            refused = await it.api.call(
                "POST", "/v1/jobs", order("kling"), idempotency_key="order-1"
            )
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert (await it.api.get("/v1/jobs"))["data"] == []
        answer = await it.api.call("POST", "/v1/jobs", order("kling"), idempotency_key="order-1")
        assert answer.status_code == 202
        assert "idempotent-replayed" not in answer.headers
        await it.api.ended(answer.json()["id"])
        assert len(it.world.renders) == 1


async def test_a_caller_that_lost_its_202_gets_the_same_job_by_its_idempotency_key(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as it:
        request = it.api.http.build_request(
            "POST", "/v1/jobs", json=order("kling"), headers={"idempotency-key": "order-1"}
        )
        _, writer = await asyncio.open_connection("127.0.0.1", request.url.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        writer.write(f"POST /v1/jobs HTTP/1.1\r\n{head}\r\n".encode() + request.content)
        await writer.drain()
        writer.close()

        async def created() -> Json | None:
            listed: list[Json] = (await it.api.get("/v1/jobs"))["data"]
            return listed[0] if listed else None

        existing = await eventually(created, "the job is created")
        answer = await it.api.call("POST", "/v1/jobs", order("kling"), idempotency_key="order-1")
        assert (answer.json()["id"], answer.headers["idempotent-replayed"]) == (
            existing["id"],
            "true",
        )
        await it.api.ended(existing["id"])
        assert len(it.world.renders) == 1


async def test_a_submission_claimed_and_not_sent_is_looked_up_twice_and_sent_again(
    tmp_path: Path,
) -> None:
    async with restartable(tmp_path, {"kling": {}}) as service:
        async with service.abandoned() as (runtime, api):
            job = await api.submit(order("kling"))
            (claim,) = await runtime.assemble(Submitter).take(1)
            assert (claim.row["id"], (await api.job(job["id"]))["status"]) == (
                job["id"],
                "submitting",
            )
        async with service.started() as it:
            assert (await it.api.ended(job["id"]))["status"] == "succeeded"
            outcomes = [entry["outcome"] for entry in await it.api.timeline(job["id"], "submit")]
            assert outcomes == ["begun", "not_found", "not_found_resend", "begun", "accepted"]
            assert len(it.world.renders) == 1


async def send(runtime: Runtime) -> None:
    """Submit the due job without recording the answer, as a process that dies then."""
    ((row, *_),) = await runtime.assemble(Submitter).take(1)
    vendor = runtime.vendors[row["account"]]
    answer = await runtime.submission_client.send(
        vendor.submit_request(runtime.orders(row, vendor)), deadline=vendor.account.answer_timeout
    )
    assert answer.status_code == 200


async def test_a_submission_sent_and_not_recorded_is_found_by_lookup(tmp_path: Path) -> None:
    async with restartable(tmp_path, {"cloudsway": {}}) as service:
        async with service.abandoned() as (runtime, api):
            job = await api.submit(order("cloudsway"))
            await send(runtime)
            await service.world.idle()
        async with service.started() as it:
            ended = await it.api.ended(job["id"])
            assert (ended["status"], ended["resolved_by"]) == ("succeeded", "lookup")
            assert ended["vendor_task_id"] == it.world.renders[0].vendor_task_id
            assert len(it.world.renders) == 1


async def test_a_lost_submission_without_a_lookup_is_not_sent_again(tmp_path: Path) -> None:
    """Renders cost money: at most once is the default. The job fails, its caller may retry."""
    async with restartable(
        tmp_path, {"agentsflare": {"poll": {**IMPATIENT, "lost_after": 0.2}}}
    ) as service:
        async with service.abandoned() as (runtime, api):
            job = await api.submit(order("agentsflare"))
            await send(runtime)
            await service.world.idle()
        async with service.started() as it:
            ended = await it.api.ended(job["id"])
            assert (ended["status"], ended["error"]["code"]) == ("failed", "submit_unknown")
            assert len(it.world.renders) == 1
            answer = await it.api.call("POST", f"/v1/jobs/{job['id']}/retry")
            assert (answer.status_code, answer.json()["retry_of"]) == (202, job["id"])
            assert (await it.api.ended(answer.json()["id"]))["status"] == "succeeded"


async def test_at_least_once_sends_a_lost_submission_without_a_lookup_again(tmp_path: Path) -> None:
    account = {"on_lost_submit": "at_least_once", "poll": {**IMPATIENT, "lost_after": 0.2}}
    async with restartable(tmp_path, {"agentsflare": account}) as service:
        async with service.abandoned() as (runtime, api):
            job = await api.submit(order("agentsflare"))
            await runtime.assemble(Submitter).take(1)
        async with service.started() as it:
            assert (await it.api.ended(job["id"]))["status"] == "succeeded"
            assert len(it.world.renders) == 1


async def test_a_job_past_its_deadline_is_not_submitted(tmp_path: Path) -> None:
    async with restartable(tmp_path, {"kling": {}}) as service:
        async with service.abandoned() as (runtime, api):
            waiting = await api.submit(order("kling", deadline=60))
            await runtime.assemble(Submitter).take(1)
            queued = await api.submit(order("kling", deadline=60))
        async with service.started() as it:
            for job in (waiting, queued):
                assert (await it.api.ended(job["id"]))["status"] == "expired"
            assert it.world.renders == []


async def test_a_submission_whose_answer_was_cut_off_is_found_by_lookup(tmp_path: Path) -> None:
    async with live(
        tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(drop_push=1.0, cut_answer=1.0)
    ) as it:
        job = await it.api.submit(order("kling"))
        assert (await it.api.ended(job["id"]))["status"] == "succeeded"
        outcomes = [entry["outcome"] for entry in await it.api.timeline(job["id"], "submit")]
        assert outcomes == ["begun", "disconnected", "found"]
        assert len(it.world.renders) == 1


async def test_a_push_settles_a_submission_whose_answer_was_cut_off(tmp_path: Path) -> None:
    async with live(tmp_path, ["agentsflare"], faults=Faults(cut_answer=1.0)) as it:
        job = await it.api.submit(order("agentsflare"))
        ended = await it.api.ended(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "push")
        assert len(it.world.renders) == 1


async def test_an_answer_after_a_push_only_adds_the_task_id(tmp_path: Path) -> None:
    async with live(tmp_path, ["agentsflare"]) as it:
        it.world.inject("agentsflare", "submit", "push_before_answer")
        job = await it.api.submit(order("agentsflare"))
        final = await it.api.ended(job["id"])

        async def has_task_id() -> Json | None:
            found = await it.api.job(job["id"])
            return found if found["vendor_task_id"] else None

        later = await eventually(has_task_id, "the answer is recorded")
        (render,) = it.world.renders
        assert (final["status"], final["resolved_by"]) == ("succeeded", "push")
        assert later == {**final, "vendor_task_id": render.ids.task, "version": later["version"]}
        assert [entry["to"] for entry in await it.api.timeline(job["id"], "move")] == [
            "submitted", "processing", "succeeded",
        ]  # fmt: skip


async def test_concurrent_pushes_and_polls_complete_each_job_once(tmp_path: Path) -> None:
    async with live(tmp_path, ["agentsflare"], faults=Faults(drop_push=1.0)) as it:
        made = await asyncio.gather(*(it.api.submit(order("agentsflare")) for _ in range(12)))
        await until(lambda: len(it.world.renders) == len(made))
        await it.world.idle()
        lost = [push for push in it.world.pushes if push.state == "succeeded"]
        assert len(lost) == len(made)
        answers = await asyncio.gather(
            *(it.api.call("POST", f"/v1/jobs/{job['id']}/refresh") for job in made),
            *(it.outside.post(push.url, content=push.body) for push in lost),
        )
        # A job that a push has ended is not polled.
        assert {answer.status_code for answer in answers} <= {200, 409}
        for job in made:
            ended = await it.api.ended(job["id"])
            sources = [
                entry["by"]
                for entry in await it.api.timeline(job["id"], "move")
                if entry["to"] == "succeeded"
            ]
            assert sources == [ended["resolved_by"]]
            assert sources in (["push"], ["poll"])
        await until(lambda: len(it.subscriber.completions()) == len(made))
        assert set(it.subscriber.completions().values()) == {1}


async def test_a_delivery_sent_and_not_recorded_is_sent_again_with_the_same_id(
    tmp_path: Path,
) -> None:
    async with restartable(tmp_path, {"kling": {}}) as service:
        async with service.abandoned() as (runtime, api):
            made = await api.subscribe(service.subscriber.url)
            service.subscriber.secrets.append(made["secret"])
            job = await api.submit(order("kling"))
            await api.call("POST", f"/v1/jobs/{job['id']}/cancel")
            stage = runtime.assemble(Deliverer)
            (claim,) = await stage.take(1)
            service.subscriber.misbehave("hang", seconds=60)
            attempt = asyncio.create_task(stage.work(claim))
            await until(lambda: service.subscriber.received, "the subscriber has it")
            attempt.cancel()
            await asyncio.wait([attempt])
        async with service.started():
            first, second = await until(
                lambda: service.subscriber.received[:2] if service.subscriber.received[1:] else None
            )
            assert first.webhook_id == second.webhook_id
            assert first.body == second.body
            assert first.verified
            assert second.verified
            assert service.subscriber.completions() == {job["id"]: 1}


async def test_a_push_to_a_stopped_process_is_replaced_by_a_poll(tmp_path: Path) -> None:
    async with restartable(tmp_path, {"kling": {"poll": IMPATIENT}}, render_seconds=0.4) as service:
        async with service.started() as it:
            job = await it.api.submit(order("kling"))
            await until(lambda: it.world.renders, "the vendor has it")
        await service.world.idle()
        assert service.world.pushes[-1].status is None
        async with service.started() as it:
            ended = await it.api.ended(job["id"])
            assert (ended["status"], ended["resolved_by"]) == ("succeeded", "poll")
