"""The callback endpoint over real sockets: tokens, signatures, copies, and disorder."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.simulator import Faults
from orchestrator.simulator.accounts import CREDENTIALS
from orchestrator.simulator.push_sender import alter_token
from orchestrator.simulator.records import Push
from orchestrator.simulator.renderer import FORGED_URL
from tests.harness import databases
from tests.harness.api_caller import Json, until
from tests.harness.live import IMPATIENT, Live, live, order

pytestmark = pytest.mark.usefixtures("everywhere")

SECRET = CREDENTIALS["kling"].webhook_secrets[0]
OTHER_SECRET = "whsec_" + "A" * 43 + "="


async def withheld(it: Live, account: str) -> tuple[str, Push]:
    """Return a live job, and its last push, which its vendor made and did not send."""
    job = await it.api.submit(order(account))
    push = await until(
        lambda: next(
            (
                push
                for push in it.world.pushes
                if push.kind == "dropped" and push.state == "succeeded"
            ),
            None,
        )
    )
    return job["id"], push


def signed(
    push: Push, secret: str = SECRET, *, age: float = 0, body: bytes | None = None
) -> dict[str, str]:
    """Return headers that sign a push, made by the public library."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    return {
        "webhook-id": push.message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(
            push.message_id, at, (body or push.body).decode()
        ),
    }


async def test_every_wrong_token_gets_the_same_answer(tmp_path: Path) -> None:
    async with live(tmp_path, ["agentsflare", "dreamto"], faults=Faults(drop_push=1.0)) as it:
        job_id, push = await withheld(it, "agentsflare")
        token = push.url.rpartition("/")[2]
        over = datetime.now(UTC) - timedelta(seconds=1)
        expired = it.runtime.keys.mint("agentsflare", Callback(job_id, 1), over)
        wrong = [
            alter_token(push.url),
            f"{it.url}/callbacks/agentsflare/{expired}",
            f"{it.url}/callbacks/dreamto/{token}",
            f"{it.url}/callbacks/unknown/{token}",
            f"{it.url}/callbacks/agentsflare/",
            f"{it.url}/callbacks/agentsflare/{token}/more",
            f"{it.url}/callbacks/agentsflare/{'A' * 4000}",
        ]
        answers = [await it.outside.post(url, content=push.body) for url in wrong]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
        assert not (await it.api.job(job_id))["finished_at"]
        assert (await it.outside.post(push.url, content=push.body)).status_code == 200
        assert (await it.api.ended(job_id))["resolved_by"] == "push"


async def test_a_push_without_the_required_signature_is_refused(tmp_path: Path) -> None:
    async with live(tmp_path, faults=Faults(drop_push=1.0)) as it:
        job_id, push = await withheld(it, "kling")
        flaws: dict[str, dict[str, str]] = {
            "missing": {},
            "another secret": signed(push, OTHER_SECRET),
            "stale": signed(push, age=600),
            "of another body": signed(push, body=b"{}"),
            "incomplete": {"webhook-id": push.message_id},
        }
        refused = {
            flaw: (await it.outside.post(push.url, content=push.body, headers=headers)).status_code
            for flaw, headers in flaws.items()
        }
        assert refused == dict.fromkeys(flaws, 401)
        assert not (await it.api.job(job_id))["finished_at"]
        stored = await it.api.timeline(job_id, "push")
        assert (
            len({each["outcome"] for each in stored if each["outcome"].startswith("rejected: ")})
            == len(stored)
            == 4
        )
        assert sum(each["copies"] for each in stored) == len(flaws)
        assert (
            await it.outside.post(push.url, content=push.body, headers=signed(push))
        ).status_code == 200
        assert (await it.api.ended(job_id))["resolved_by"] == "push"


async def test_pushes_with_stale_signatures_are_refused_and_the_vendor_is_polled(
    tmp_path: Path,
) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(stale_push=1.0)) as it:
        job = await it.api.submit(order("kling"))
        assert (await it.api.ended(job["id"]))["resolved_by"] == "poll"
        await until(
            lambda: len(it.world.pushes) == 3 and all(push.status for push in it.world.pushes)
        )
        assert {push.status for push in it.world.pushes} == {401}


async def test_an_invalid_push_is_refused_by_the_first_check_that_it_fails(tmp_path: Path) -> None:
    async with live(tmp_path, faults=Faults(drop_push=1.0)) as it:
        job_id, push = await withheld(it, "kling")
        garbage = b"not json"
        big = b'"' + b"x" * (1 << 20) + b'"'
        answers = [
            (await it.outside.get(push.url), 405),
            (await it.outside.get(alter_token(push.url)), 405),
            (await it.outside.post(alter_token(push.url), content=big), 404),
            (await it.outside.post(push.url, content=big), 413),
            (await it.outside.post(push.url, content=garbage), 401),
            (
                await it.outside.post(
                    push.url, content=garbage, headers=signed(push, body=garbage)
                ),
                400,
            ),
        ]
        assert [answer.status_code for answer, _ in answers] == [status for _, status in answers]
        # What is signed and not JSON makes the job due: a poll may have found the result by now.
        assert (await it.api.job(job_id))["resolved_by"] in (None, "poll")


async def test_a_repeated_push_changes_nothing_and_is_acknowledged(tmp_path: Path) -> None:
    async with live(tmp_path, faults=Faults(duplicate_push=1.0)) as it:
        job = await it.api.submit(order("kling"))
        await it.api.ended(job["id"])
        await it.world.idle()
        assert [push.status for push in it.world.pushes] == [200] * 6
        assert [push["copies"] for push in await it.api.timeline(job["id"], "push")] == [2, 2, 2]
        assert len(await it.api.timeline(job["id"], "event")) == 3
        await it.delivered(job["id"])
        assert it.subscriber.completions() == {job["id"]: 1}


async def test_reordered_forged_and_repeated_pushes_change_no_outcome(tmp_path: Path) -> None:
    faults = Faults(
        duplicate_push=0.5, reorder_push=0.5, delay_push=0.3, forged_push=0.5, stale_push=0.1,
        drop_push=0.2, delay_seconds=(0.05, 0.3),
    )  # fmt: skip
    accounts = {
        name: {"poll": IMPATIENT}
        for name in ("kling", "cloudsway", "agentsflare", "dreamto", "cubicspaces")
    }
    before = databases.deadlocks(tmp_path)
    async with live(tmp_path, accounts, faults=faults, render_seconds=0.3) as it:
        made = await asyncio.gather(
            *(it.api.submit(order(account)) for account in accounts for _ in range(6))
        )
        ended = [await it.api.ended(job["id"]) for job in made]
        await it.world.idle()
        assert {job["status"] for job in ended} == {"succeeded"}
        assert FORGED_URL not in json.dumps(ended)
        assert {push.status for push in it.world.pushes if push.kind == "forged"} == {404}
        assert {push.status for push in it.world.pushes if push.kind in ("push", "duplicate")} == {
            200
        }
        await until(
            lambda: len(it.subscriber.completions()) == len(made), "all completions are delivered"
        )
        assert set(it.subscriber.completions().values()) == {1}
        for job in made:
            received_types = it.types(job["id"])
            assert received_types == sorted(
                received_types, key=["job.submitted", "job.processing", "job.succeeded"].index
            )
    assert databases.deadlocks(tmp_path) == before, "writers lock rows in one order"


async def test_a_success_without_a_url_is_polled_until_it_has_one(tmp_path: Path) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(no_url=1.0)) as it:
        job = await it.api.submit(order("kling"))
        ended = await it.api.ended(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "poll")
        assert ended["output"]["videos"][0]["url"]


async def test_a_success_that_never_has_a_url_fails_after_its_grace(tmp_path: Path) -> None:
    poll: Json = {**IMPATIENT, "output_grace": 0.5}
    faults = Faults(no_url=1.0, no_url_times=None)
    async with live(tmp_path, {"kling": {"poll": poll}}, faults=faults) as it:
        job = await it.api.submit(order("kling"))
        ended = await it.api.ended(job["id"])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "output_missing")
        await it.delivered(job["id"], "job.failed")
        assert it.subscriber.completions() == {job["id"]: 1}


async def test_an_unknown_word_keeps_the_job_live(tmp_path: Path) -> None:
    async with live(tmp_path, faults=Faults(unknown_word=1.0), render_seconds=0.3) as it:
        job = await it.api.submit(order("kling"))
        ended = await it.api.ended(job["id"])
        assert ended["status"] == "succeeded"
        outcomes = [push["outcome"] for push in await it.api.timeline(job["id"], "push")]
        assert "unknown_word" in outcomes


@pytest.mark.parametrize("account", ["cubicspaces", "uniall"])
async def test_a_clip_that_needs_the_account_s_key_is_streamed_to_the_caller(
    tmp_path: Path, account: str
) -> None:
    """cubicspaces states its URL, uniall none."""
    faults = Faults(keyed_content=1.0, drop_push=1.0)
    accounts: dict[str, Json] = {account: {"poll": IMPATIENT}}
    async with live(tmp_path, accounts, faults=faults, answers="video") as it:
        job = await it.api.ended((await it.api.submit(order(account)))["id"])
        assert job["status"] == "succeeded", job["error"]
        (video,) = job["output"]["videos"]
        ours = f"{it.url}/v1/jobs/{job['id']}/outputs/0"
        stated = f"{it.world.urls[account]}/v1/videos/{job['vendor_task_id']}/content"
        assert video["content_url"] == ours
        assert video["url"] == (stated if account == "cubicspaces" else ours)
        clip = await it.api.call("GET", ours)
        part = await it.api.call("GET", ours, range="bytes=10-")
        assert clip.content.startswith(b"simulated clip")
        assert (part.status_code, part.content) == (206, clip.content[10:])
        assert (await it.outside.get(ours)).status_code == 401
        assert it.world.violations == []


async def test_a_watermarked_copy_and_the_charge_reach_the_caller(tmp_path: Path) -> None:
    async with live(tmp_path, ["kling_new"]) as it:
        body = order("kling_new")
        body["input"] = body["input"] | {"watermark": True}
        job = await it.api.ended((await it.api.submit(body))["id"])
        (video,) = job["output"]["videos"]
        assert video["watermark_url"].endswith("?watermark")
        assert (video["content_url"], job["output"]["audios"]) == (None, [])
        assert [charge["charge_type"] for charge in job["billing"]] == ["unit"]
        await it.delivered(job["id"])
        data = json.loads(it.deliveries(job["id"])[-1].body)["data"]
        assert (data["output"], data["billing"]) == (job["output"], job["billing"])
