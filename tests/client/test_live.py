"""Both clients with the real service, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import (
    Conflict,
    Forbidden,
    Invalid,
    JobFailed,
    NotFound,
    Unauthorized,
    WaitTimeout,
)
from orchestrator.schemas import Job
from orchestrator.simulator import Faults
from tests.harness.api_caller import until
from tests.harness.live import IMPATIENT, live, order, restartable
from tests.harness.scripted_client import CLIENTS, each_client, open_client


async def test_a_job_is_run_read_listed_and_retried(tmp_path: Path) -> None:
    async with live(tmp_path) as service:
        async for client in each_client(service.url):
            seen: list[Job] = []
            job = await client.run(
                **order("kling"), timeout=20, on_change=seen.append, metadata={"order": "9"}
            )
            assert job.status == "succeeded"
            assert job.urls
            assert [change.version for change in seen] == sorted(
                {change.version for change in seen}
            )
            assert (seen[0].id, seen[-1]) == (job.id, job)
            assert (
                await client.jobs.get(job.id)
                == job
                == await client.wait(job)
                == await client.result(job.id)
            )
            assert job in await client.jobs.list(
                status=["succeeded", "failed"], account="kling", page_size=1
            )
            history = await client.jobs.timeline(job.id, page_size=2)
            assert {"submit", "push", "move", "event"} <= {entry.kind for entry in history}
            with pytest.raises(Conflict) as refused:
                await client.jobs.cancel(job.id)
            assert refused.value.job_id == job.id
            again = await client.jobs.retry(job.id)
            assert again.retry_of == job.id
            assert (await client.result(again.id, timeout=20)).is_final
            assert (await client.accounts.get("kling")).vendor == "kling"
            assert [account.name for account in await client.accounts.list()] == ["kling"]


async def test_a_clip_that_needs_the_account_s_key_is_downloaded(tmp_path: Path) -> None:
    world: dict[str, Any] = {"faults": Faults(keyed_content=1.0), "answers": "video"}
    async with live(tmp_path, {"cubicspaces": {"poll": IMPATIENT}}, **world) as service:
        async for client in each_client(service.url):
            job = await client.submit(**order("cubicspaces"))
            with pytest.raises(Conflict):
                await client.jobs.download(job.id, 0, io.BytesIO())
            job, file = await client.result(job.id, timeout=20), io.BytesIO()
            assert job.urls == [f"{service.url}/v1/jobs/{job.id}/outputs/0"]
            assert await client.jobs.download(job.id, 0, file) == len(file.getvalue())
            assert file.getvalue().startswith(b"simulated clip")
            with pytest.raises(NotFound):
                await client.jobs.download(job.id, 1, file)


async def test_a_timeout_and_an_unsuccessful_job_are_errors(tmp_path: Path) -> None:
    async with live(tmp_path, render_seconds=600) as service:
        async for client in each_client(service.url):
            job = await client.submit(**order("kling"))
            with pytest.raises(WaitTimeout) as still:
                await client.wait(job, timeout=0.3)
            assert (still.value.job.id, still.value.job.is_final) == (job.id, False)
            waiting = asyncio.create_task(client.result(job.id, timeout=20))
            assert (await client.jobs.cancel(job.id)).status == "canceled"
            with pytest.raises(JobFailed) as failed:
                await waiting
            assert failed.value.job.status == "canceled"


async def test_a_submission_repeated_with_its_idempotency_key_is_the_same_job(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as service:
        async for client in each_client(service.url):
            key = client.client_class.__name__
            job = await client.submit(
                **order("kling"), idempotency_key=key, external_task_id=key, wait=10
            )
            assert job.status == "succeeded"
            assert (
                await client.submit(**order("kling"), idempotency_key=key, external_task_id=key)
            ).id == job.id
            with pytest.raises(Conflict) as taken:
                await client.submit(**order("kling"), external_task_id=key)
            assert taken.value.job_id == job.id
            with pytest.raises(Invalid) as reused:
                await client.submit(**order("kling"), idempotency_key=key)
            assert reused.value.code == "idempotency_key_reused"


async def test_every_refusal_has_its_own_error_class(tmp_path: Path) -> None:
    async with live(tmp_path) as service:
        async for client in each_client(service.url):
            with pytest.raises(
                NotFound, match=r"GET /v1/jobs/job_x: .* \(404, not_found\): no such job \[req_"
            ):
                await client.jobs.get("job_x")
            with pytest.raises(Invalid) as invalid:
                await client.submit(model="kling-v1", input={"prompt": 5})
            assert [fault.pointer for fault in invalid.value.errors] == ["/input/prompt"]
            assert "/input/prompt" in str(invalid.value)
            made = await client.keys.create("reader", scope="read")
            async with open_client(client.client_class, service.url, made.key) as reader:
                with pytest.raises(Forbidden, match="scope"):
                    await reader.submit(**order("kling"))
            async with open_client(
                client.client_class, service.url, "orc_" + "z" * 40
            ) as unauthorized:
                with pytest.raises(Unauthorized, match="ORCHESTRATOR_API_KEY") as unknown:
                    await unauthorized.jobs.get("job_1")
                assert "zzz" not in repr(unknown.value) + str(unknown.value) + repr(
                    vars(unknown.value)
                )
            await client.keys.revoke(made.id)
            (revoked,) = [key for key in await client.keys.list() if key.id == made.id]
            assert revoked.revoked_at is not None


async def test_subscribers_are_created_updated_and_receive_deliveries_and_replays(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as service:
        async for client in each_client(service.url):
            made = await client.subscribers.create(
                service.subscriber.url,
                types="job.succeeded,subscriber.*",
                rate_limit=50,
                headers={"x-of": "ours"},
            )
            service.subscriber.secrets.append(made.secret)
            assert (made.types, made.rate_limit) == (["job.succeeded", "subscriber.*"], 50)
            changed = await client.subscribers.update(made.id, rate_limit=None, description="d")
            wanted = {"data": {"error": None}}
            changed = await client.subscribers.update(made.id, filter=wanted, ordered=True)
            assert (changed.filter, changed.ordered) == (wanted, True)
            answer = await client.subscribers.explain(made.id, body={"type": "job.succeeded"})
            assert (answer.matches, answer.pointer) == (False, "/data/error")
            changed = await client.subscribers.update(made.id, filter=None, ordered=False)
            assert (changed.filter, changed.ordered) == (None, False)
            own: dict[str, object] = {"schedule": ["5s", 60], "final_statuses": [404]}
            changed = await client.subscribers.update(made.id, retry=own)
            assert changed.retry is not None
            assert (changed.retry.schedule, changed.retry.deadline) == (["5s", 60], None)
            assert (await client.subscribers.update(made.id, retry=None)).retry is None
            assert (changed.rate_limit, changed.description, changed.types) == (
                None,
                "d",
                made.types,
            )
            assert (await client.subscribers.pause(made.id)).status == "paused"
            assert (await client.subscribers.resume(made.id)).status == "active"
            rotated = await client.subscribers.rotate_secret(made.id, grace_seconds=60)
            assert rotated.secret != made.secret
            job = await client.run(**order("kling"), timeout=20)
            await service.delivered(job.id)
            (event, *_) = await client.events.list(types=["job.succeeded"], job=job.id)
            assert (event.job_id, event.job, await client.events.get(event.id)) == (
                job.id,
                job,
                event,
            )
            (delivery,) = await client.deliveries.list(subscriber=made.id, event=event.id)
            assert (await client.deliveries.retry(delivery.id)).id == delivery.id
            assert (await client.deliveries.get(delivery.id)).attempts
            assert (await client.events.replay(event.id, subscriber=made.id)).count == 1
            test = await client.subscribers.test(made.id)
            assert await client.deliveries.list(event=test.id)
            replay = await client.subscribers.replay(
                made.id, status="delivered", since="2026-01-01T00:00:00Z"
            )
            assert await client.replays.get(replay.id) in await client.replays.list()
            assert (await client.replays.count(subscriber=made.id)).count == 0
            done = await client.replays.create(event=event.id, types=["job.*"])
            with pytest.raises(Conflict):
                await client.replays.cancel(done.id)
            await client.subscribers.delete(made.id)
            with pytest.raises(NotFound):
                await client.subscribers.get(made.id)
            assert made.id not in [subscriber.id for subscriber in await client.subscribers.list()]


async def test_files_are_uploaded_and_the_signing_key_is_returned(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"png")
    async with live(tmp_path, ["dreamto", "kling"]) as service:
        async for client in each_client(service.url):
            for file in (tmp_path / "cat.png", b"png"):
                assert await client.upload(
                    file, kind="image", purpose="video_gen", account="dreamto"
                )
            with pytest.raises(Invalid, match="kling"):
                await client.upload(b"png", kind="image", purpose="video_gen", account="kling")
            assert await client.signing_key() == service.runtime.keys.callback_secrets[0]
            assert (await client.accounts.check("kling")).reachable


async def test_any_path_can_be_called(tmp_path: Path) -> None:
    async with live(tmp_path) as service:
        async for client in each_client(service.url):
            response = await client.call("get", "/v1/jobs", query={"limit": 1, "account": None})
            assert (response.status, response.document["data"]) == (
                200,
                response.document["data"][:1],
            )
            key = {"Idempotency-Key": client.client_class.__name__}
            made = await client.call("POST", "/v1/jobs", json=order("kling"), headers=key)
            assert made.headers["location"].endswith(made.document["id"])


async def test_a_wait_outlives_a_restart_of_the_service(tmp_path: Path) -> None:
    async with (
        restartable(tmp_path, {"kling": {}}, render_seconds=600) as services,
        contextlib.AsyncExitStack() as held,
    ):
        url = services.settings.public_url
        clients = [
            await held.enter_async_context(open_client(client_class, url))
            for client_class in CLIENTS
        ]
        async with services.started() as service:
            job = await service.api.submit(order("kling"))
            waits = [asyncio.create_task(client.wait(job["id"], timeout=60)) for client in clients]
            await until(
                lambda: len(service.runtime.notifier.job_waiters._waiting.get(job["id"], ())) == 2,
                "both wait",
            )
        async with services.started() as service:
            await service.api.call("POST", f"/v1/jobs/{job['id']}/cancel")
            assert [(await pending).status for pending in waits] == ["canceled", "canceled"]
