"""Faults around the service, over real sockets: a full disk, vendors' limits, slow subscribers."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.simulator import Faults, Subscriber
from orchestrator.simulator.subscriber import Misbehaviour
from tests.harness.api_caller import eventually, until
from tests.harness.live import IMPATIENT, full_disk, live, order

pytestmark = pytest.mark.long


async def test_on_a_full_disk_nothing_is_acknowledged_and_nothing_is_lost(tmp_path: Path) -> None:
    async with live(tmp_path, ["agentsflare"], faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("agentsflare"))
        push = await until(
            lambda: next((each for each in it.world.pushes if each.state == "succeeded"), None)
        )
        with full_disk(tmp_path):
            refused = [
                await it.outside.post(push.url, content=push.body),
                await it.api.call("POST", "/v1/jobs", order("agentsflare")),
                await it.outside.get(f"{it.url}/readyz"),
            ]
            assert [answer.status_code for answer in refused] == [503, 503, 503]
            assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
            # Reads and the process itself are not affected.
            assert (await it.api.job(job["id"]))["finished_at"] is None
            assert (await it.outside.get(f"{it.url}/healthz")).status_code == 200
        assert (await it.outside.get(f"{it.url}/readyz")).status_code == 200
        assert (await it.outside.post(push.url, content=push.body)).status_code == 200
        assert (await it.api.ended(job["id"]))["resolved_by"] == "push"
        await it.delivered(job["id"])
        assert len(await it.api.timeline(job["id"], "push")) == 1


async def test_without_the_file_at_its_path_nothing_is_acknowledged_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    async with live(tmp_path, ["agentsflare"], faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("agentsflare"))
        push = await until(
            lambda: next((each for each in it.world.pushes if each.state == "succeeded"), None)
        )
        file = tmp_path / "test.db"
        file.rename(away := tmp_path / "away.db")
        refused = [
            await it.outside.post(push.url, content=push.body),
            await it.api.call("POST", "/v1/jobs", order("agentsflare")),
            await it.outside.get(f"{it.url}/readyz"),
        ]
        assert [answer.status_code for answer in refused] == [503, 503, 503]
        assert "put it back, or restart" in refused[2].json()["checks"][0]["detail"]
        assert str(tmp_path) not in "".join(answer.text for answer in refused)
        assert (await it.outside.get(f"{it.url}/healthz")).status_code == 200
        away.rename(file)
        assert (await it.outside.get(f"{it.url}/readyz")).status_code == 200
        assert (await it.outside.post(push.url, content=push.body)).status_code == 200
        assert (await it.api.ended(job["id"]))["resolved_by"] == "push"
        assert len((await it.api.get("/v1/jobs"))["data"]) == 1, "what was refused has left no job"


async def test_a_push_refused_on_a_full_disk_is_replaced_by_a_poll(tmp_path: Path) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, render_seconds=0.3) as it:
        job = await it.api.submit(order("kling"))
        await until(lambda: it.world.renders, "the vendor has it")
        with full_disk(tmp_path):
            await it.world.idle()
        assert it.world.pushes[-1].status == 503
        ended = await it.api.ended(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "poll")
        assert len(it.world.renders) == 1


async def test_many_refusals_end_with_all_jobs_done_and_no_limit_exceeded(tmp_path: Path) -> None:
    accounts = {"kling": {"max_in_flight": 6}, "cloudsway": {"max_in_flight": 3}}
    limits = {"kling": 4}
    async with live(tmp_path, accounts, faults=Faults(refuse_rate=0.15), limits=limits) as it:
        made = await asyncio.gather(
            *(it.api.submit(order(account)) for account in accounts for _ in range(8))
        )
        ended = [await it.api.ended(job["id"], 40) for job in made]
        assert {job["status"] for job in ended} == {"succeeded"}
        assert it.world.peaks["kling"] <= 4
        assert it.world.peaks["cloudsway"] <= 3
        assert len(it.world.renders) == len(made)
        await until(lambda: len(it.subscriber.completions()) == len(made))


async def test_a_vendor_that_refuses_the_key_for_a_while_fails_no_more_than_was_in_flight(
    tmp_path: Path,
) -> None:
    limited = {"kling": {"max_in_flight": 4}}
    async with live(tmp_path, limited, faults=Faults(wrong_key=1.0)) as it:
        made = await asyncio.gather(*(it.api.submit(order("kling")) for _ in range(12)))

        async def is_held() -> bool:
            return bool((await it.api.get("/v1/accounts/kling"))["held"])

        await eventually(is_held, "the account is held")
        assert (await it.api.call("POST", "/v1/accounts/kling/check")).json()["authorized"] is False
        jobs = (await it.api.get("/v1/jobs"))["data"]
        assert {(job["status"], job["held"]["reason"]) for job in jobs if job["held"]} == {
            ("queued", "unauthorized")
        }
        refused = [job for job in jobs if job["status"] == "failed"]
        assert 1 <= len(refused) <= 4
        assert {job["error"]["code"] for job in refused} == {"vendor_auth"}
        it.world.faults = Faults()

        async def is_released() -> bool:
            await it.api.call("POST", "/v1/accounts/kling/check")
            return not await is_held()

        await eventually(is_released, "a check that succeeds releases the jobs")
        ended = [await it.api.ended(job["id"], 40) for job in made]
        assert Counter(job["status"] for job in ended) == {
            "failed": len(refused), "succeeded": len(ended) - len(refused)
        }  # fmt: skip
        assert {job["held"] for job in ended} == {None}
        await until(
            lambda: (
                [one.type for one in it.subscriber.received if one.type.startswith("account.")]
                == ["account.unauthorized", "account.recovered"]
            )
        )


async def test_an_account_never_has_more_in_flight_than_its_limit(tmp_path: Path) -> None:
    accounts = {"kling": {"max_in_flight": 4}, "dreamto": {"max_in_flight": 1}}
    orders = ["kling"] * 12 + ["dreamto"] * 4
    # Renders outlast the submissions of a slow machine, so that the limit is reached.
    async with live(tmp_path, accounts, render_seconds=0.5) as it:
        made = await asyncio.gather(*(it.api.submit(order(account)) for account in orders))
        ended = [await it.api.ended(job["id"], 30) for job in made]
        assert {job["status"] for job in ended} == {"succeeded"}
        assert (it.world.peaks["kling"], it.world.peaks["dreamto"]) == (4, 1)


async def test_subscribers_that_hang_or_trickle_delay_no_other_subscriber(tmp_path: Path) -> None:
    async with live(tmp_path) as it, Subscriber() as hanging, Subscriber() as trickling:
        slow_subscribers: list[tuple[Subscriber, Misbehaviour]] = [
            (hanging, "hang"),
            (trickling, "trickle"),
        ]
        for slow, how in slow_subscribers:
            slow.misbehave(how, times=1000)
        lanes = {(await it.api.subscribe(slow.url))["id"] for slow, _ in slow_subscribers}
        made = await asyncio.gather(*(it.api.submit(order("kling")) for _ in range(40)))
        await until(
            lambda: len(it.subscriber.completions()) == len(made), "the others get their events", 10
        )

        async def only_slow_pending() -> bool:
            pending = (await it.api.get("/v1/deliveries?status=pending&limit=200"))["data"]
            return {each["subscriber"] for each in pending} == lanes

        await eventually(only_slow_pending, "only deliveries to slow subscribers are pending")
        # A lane has exactly its limit of attempts in progress.
        await until(lambda: [len(slow.received) for slow, _ in slow_subscribers] == [8, 8])


async def test_without_pushes_jobs_complete_and_the_account_is_announced_as_degraded(
    tmp_path: Path,
) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(drop_push=1.0)) as it:
        for _ in range(3):
            job = await it.api.submit(order("kling"))
            assert (await it.api.ended(job["id"]))["resolved_by"] == "poll"
        await until(
            lambda: "account.push_degraded" in {each.type for each in it.subscriber.received}
        )
        assert (await it.api.get("/v1/accounts/kling"))["pushes_missed"] == 3
        it.world.faults = Faults()

        async def recovered() -> bool:
            await it.api.ended((await it.api.submit(order("kling")))["id"])
            return "account.push_recovered" in {each.type for each in it.subscriber.received}

        await eventually(recovered, "the account is announced as recovered")


async def test_a_subscriber_that_failed_gets_its_events_by_retries(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        it.subscriber.misbehave("error", times=3)
        job = await it.api.submit(order("kling"))
        await until(
            lambda: [each.answered for each in it.subscriber.received] == [500] * 3,
            "three failed attempts",
        )
        for delivery in (await it.api.get("/v1/deliveries?status=pending"))["data"]:
            assert (
                await it.api.call("POST", f"/v1/deliveries/{delivery['id']}/retry")
            ).status_code in (200, 202)
        await until(
            lambda: (
                it.subscriber.completions() == {job["id"]: 1} and len(it.subscriber.received) == 6
            )
        )
        again = {each.webhook_id for each in it.subscriber.received[3:]}
        assert again == {each.webhook_id for each in it.subscriber.received[:3]}
