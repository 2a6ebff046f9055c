"""What goes wrong around the service, over real sockets: the disk, the vendors' limits and silence, subscribers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.simulator import Faults, Subscriber
from orchestrator.simulator.subscriber import Misbehaviour
from tests.harness.api_caller import eventually, until
from tests.harness.live import IMPATIENT, full_disk, live, order

pytestmark = pytest.mark.long


async def test_on_a_full_disk_nothing_is_acknowledged_and_afterwards_nothing_is_missing(
    tmp_path: Path,
) -> None:
    async with live(tmp_path, ["agentsflare"], faults=Faults(drop_push=1.0)) as it:
        job = await it.api.submit(order("agentsflare"))
        push = await until(
            lambda: next((one for one in it.world.pushes if one.state == "succeeded"), None)
        )
        with full_disk(tmp_path):
            refused = [
                await it.outside.post(push.url, content=push.body),
                await it.api.call("POST", "/v1/jobs", order("agentsflare")),
                await it.outside.get(f"{it.url}/readyz"),
            ]
            assert [answer.status_code for answer in refused] == [503, 503, 503]
            assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
            # Readers, and the process itself, are as well as ever.
            assert (await it.api.job(job["id"]))["finished_at"] is None
            assert (await it.outside.get(f"{it.url}/healthz")).status_code == 200
        assert (await it.outside.get(f"{it.url}/readyz")).status_code == 200
        assert (await it.outside.post(push.url, content=push.body)).status_code == 200
        assert (await it.api.ended(job["id"]))["resolved_by"] == "push"
        await it.delivered(job["id"])
        assert len(await it.api.timeline(job["id"], "push")) == 1


async def test_a_push_that_met_a_full_disk_is_made_up_for(tmp_path: Path) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, render_seconds=0.3) as it:
        job = await it.api.submit(order("kling"))
        await until(lambda: it.world.renders, "the vendor has it")
        with full_disk(tmp_path):
            await it.world.idle()
        assert it.world.pushes[-1].status == 503
        ended = await it.api.ended(job["id"])
        assert (ended["status"], ended["resolved_by"]) == ("succeeded", "poll")
        assert len(it.world.renders) == 1


async def test_a_storm_of_refusals_ends_with_everything_done_and_no_limit_exceeded(
    tmp_path: Path,
) -> None:
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


async def test_an_account_never_has_more_in_flight_than_its_limit(tmp_path: Path) -> None:
    accounts = {"kling": {"max_in_flight": 4}, "dreamto": {"max_in_flight": 1}}
    async with live(tmp_path, accounts) as it:
        made = await asyncio.gather(
            *(it.api.submit(order(account)) for account in accounts for _ in range(12))
        )
        ended = [await it.api.ended(job["id"], 30) for job in made]
        assert {job["status"] for job in ended} == {"succeeded"}
        assert (it.world.peaks["kling"], it.world.peaks["dreamto"]) == (4, 1)


async def test_subscribers_that_hang_or_trickle_make_only_themselves_wait(tmp_path: Path) -> None:
    async with live(tmp_path) as it, Subscriber() as hanging, Subscriber() as trickling:
        ways: list[tuple[Subscriber, Misbehaviour]] = [(hanging, "hang"), (trickling, "trickle")]
        for slow, how in ways:
            slow.misbehave(how, times=1000)
        lanes = {(await it.api.subscribe(slow.url))["id"] for slow, _ in ways}
        made = await asyncio.gather(*(it.api.submit(order("kling")) for _ in range(40)))
        await until(
            lambda: len(it.subscriber.completions()) == len(made), "the others are told", 10
        )

        async def only_theirs() -> bool:
            pending = (await it.api.get("/v1/deliveries?status=pending&limit=200"))["data"]
            return {one["subscriber"] for one in pending} == lanes

        await eventually(only_theirs, "nothing but theirs is pending")
        # A lane is as full as it may get, and no fuller.
        await until(lambda: [len(slow.received) for slow, _ in ways] == [8, 8])


async def test_when_the_pushes_stop_everything_completes_and_operators_hear_of_it(
    tmp_path: Path,
) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(drop_push=1.0)) as it:
        for _ in range(3):
            job = await it.api.submit(order("kling"))
            assert (await it.api.ended(job["id"]))["resolved_by"] == "poll"
        await until(lambda: "account.push_degraded" in {one.type for one in it.subscriber.received})
        assert (await it.api.get("/v1/accounts/kling"))["pushes_missed"] == 3
        it.world.faults = Faults()

        async def recovered() -> bool:
            await it.api.ended((await it.api.submit(order("kling")))["id"])
            return "account.push_recovered" in {one.type for one in it.subscriber.received}

        await eventually(recovered, "operators hear that pushes came back")


async def test_a_subscriber_that_was_away_gets_what_it_missed(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        it.subscriber.misbehave("error", times=3)
        job = await it.api.submit(order("kling"))
        await until(
            lambda: [one.answered for one in it.subscriber.received] == [500] * 3,
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
        again = {one.webhook_id for one in it.subscriber.received[3:]}
        assert again == {one.webhook_id for one in it.subscriber.received[:3]}
