"""The simulator injects exactly the faults it is given, and signs as Kling does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.simulator import Faults, SimulatedVendors, Subscriber
from orchestrator.simulator.accounts import CREDENTIALS
from orchestrator.simulator.records import Push

Json = dict[str, Any]
VIDEO = "cdn.example.com"
LEGACY = {"model_name": "kling-v3", "prompt": "a rabbit", "duration": "5"}
UNIFIED = {"model": "kling-v3", "prompt": "a city"}
JOB = {"model": "m", "input": {"prompt": "a wave"}}
PATHS = {
    "kling": "kling/v1/videos/text2video",
    "agentsflare": "agentsflare/klingai/v1/videos/text2video",
    "kling_v2": "kling_v2/text-to-video/kling-3.0",
    "cubicspaces": "cubicspaces/v1/video/generations",
    "dreamto": "dreamto/v1/jobs",
    "uniall": "uniall/v1/video/generations",
}
QUERIES = {"uniall": "uniall/v1/videos"}
UNIALL = {"model": "kling-v3-std-silent", "prompt": "a desert"}
BODIES: dict[str, Json] = {
    "cubicspaces": UNIFIED,
    "uniall": UNIALL,
    "dreamto": JOB,
    "kling_v2": {"prompt": "a dog"},
}
BUSY = {"kling": 1303, "agentsflare": 1303, "kling_v2": 1303, "cubicspaces": "fail_to_fetch_task"}


class Caller:
    """Submits with a subscriber's URL as callback."""

    def __init__(self, vendors: SimulatedVendors, http: httpx.AsyncClient, hook: str) -> None:
        self.vendors, self.http, self.hook = vendors, http, hook

    async def submit(
        self, vendor: str = "kling", token: str | None = None, **hooks: str
    ) -> httpx.Response:
        body = {
            **BODIES.get(vendor, LEGACY),
            **({} if vendor in BODIES else {"callback_url": self.hook}),
            **hooks,
        }
        key = {"authorization": f"Bearer {token or CREDENTIALS[vendor].api_key}"}
        return await self.http.post(PATHS[vendor], json=body, headers=key)

    async def query(self, task: str, vendor: str = "kling") -> httpx.Response:
        key = {"authorization": f"Bearer {CREDENTIALS[vendor].api_key}"}
        return await self.http.get(f"{QUERIES.get(vendor, PATHS[vendor])}/{task}", headers=key)

    async def pushed(self, **hooks: str) -> list[Push]:
        """Submit to Kling, wait until it is idle, and return every push."""
        await self.submit(**hooks)
        await self.vendors.idle()
        return self.vendors.pushes


@asynccontextmanager
async def calling(faults: Faults | None = None, **options: Any) -> AsyncIterator[Caller]:
    vendors = SimulatedVendors(faults=faults, **{"render_seconds": 0.02, **options})
    async with (
        vendors,
        Subscriber() as sink,
        httpx.AsyncClient(base_url=vendors.base_url, verify=False) as http,
    ):
        yield Caller(vendors, http, sink.url)


def states(pushes: list[Push], kind: str = "push") -> list[str]:
    return [push.state for push in pushes if push.kind == kind]


def verified(push: Push) -> bool:
    try:
        Webhook(CREDENTIALS["kling"].webhook_secrets[0]).verify(push.body, push.headers)
    except WebhookVerificationError:
        return False
    return True


async def test_kling_signs_every_push_and_a_gateway_signs_none() -> None:
    async with calling() as caller:
        await caller.submit("agentsflare")
        for push in await caller.pushed():
            assert verified(push) if push.vendor == "kling" else "webhook-id" not in push.headers
        assert {push.vendor for push in caller.vendors.pushes} == {"kling", "agentsflare"}


async def test_a_stale_push_is_signed_with_a_timestamp_of_ten_minutes_ago() -> None:
    async with calling(Faults(stale_push=1)) as caller:
        for push in await caller.pushed():
            assert not verified(push)
            assert time.time() - int(push.headers["webhook-timestamp"]) >= 600


async def test_a_forged_push_has_another_token_a_false_url_and_no_signature() -> None:
    async with calling(Faults(forged_push=1)) as caller:
        forged = [push for push in await caller.pushed() if push.kind == "forged"]
        assert len(forged) == 3
        assert all(push.url != caller.hook and b"forged.example" in push.body for push in forged)
        assert all("webhook-signature" not in push.headers for push in forged)


@pytest.mark.parametrize(
    ("fault", "kind", "expected"),
    [
        ("drop_push", "dropped", ["submitted", "processing", "succeeded"]),
        ("duplicate_push", "duplicate", ["submitted", "processing", "succeeded"]),
        ("reorder_push", "push", ["submitted", "succeeded", "processing"]),
        ("fail_render", "push", ["submitted", "processing", "failed"]),
        ("unknown_word", "push", ["submitted", "processing", "unknown", "succeeded"]),
    ],
)
async def test_a_fault_changes_the_pushes(fault: str, kind: str, expected: list[str]) -> None:
    async with calling(Faults.from_json({fault: 1})) as caller:
        assert states(await caller.pushed(), kind) == expected
        assert all(push.status is None for push in caller.vendors.pushes if push.kind == "dropped")


@pytest.mark.parametrize("vendor", ["cubicspaces", "uniall"])
async def test_a_keyed_clip_is_served_to_the_holder_of_the_key_alone(vendor: str) -> None:
    """cubicspaces shows where, uniall does not."""
    async with calling(Faults(keyed_content=1), render_seconds=0.2, answers="video") as caller:
        task = (await caller.submit(vendor)).json()["id"]
        content = f"{caller.vendors.urls[vendor]}/v1/videos/{task}/content"
        key = {"authorization": f"Bearer {CREDENTIALS[vendor].api_key}"}
        assert (await caller.http.get(content, headers=key)).is_client_error
        await caller.vendors.idle()
        shown = (await caller.query(task, vendor)).json()
        assert shown["status"] == "completed"
        stated = shown.get("video_url") or shown.get("metadata", {}).get("url")
        assert stated == (content if vendor == "cubicspaces" else None)
        assert (await caller.http.get(content)).status_code == 401
        whole = await caller.http.get(content, headers=key)
        part = await caller.http.get(content, headers=key | {"range": "bytes=10-"})
        assert (whole.status_code, part.status_code) == (200, 206)
        assert (whole.headers["content-type"], part.content) == ("video/mp4", whole.content[10:])
        (violation,) = caller.vendors.violations
        assert violation.what == "no_key"


async def test_a_dropped_push_has_no_duplicate() -> None:
    async with calling(Faults(drop_push=1, duplicate_push=1)) as caller:
        assert {push.kind for push in await caller.pushed()} == {"dropped"}


async def test_a_delayed_push_is_overtaken() -> None:
    async with calling(Faults(delay_seconds=(0.3, 0.4))) as caller:
        caller.vendors.inject("kling", "push", "delay_push")
        assert states(await caller.pushed()) == ["processing", "succeeded", "submitted"]


async def test_every_push_can_arrive_before_the_submit_response() -> None:
    async with calling(Faults(push_before_answer=1)) as caller:
        answer = await caller.submit()
        assert answer.json()["data"]["task_status"] == "submitted"
        assert [(push.state, push.status) for push in caller.vendors.pushes][-1] == (
            "succeeded",
            200,
        )


@pytest.mark.parametrize("vendor", ["kling", "cubicspaces"])
async def test_a_submission_whose_response_is_cut_is_accepted(vendor: str) -> None:
    async with calling() as caller:
        caller.vendors.inject(vendor, "submit", "cut_answer")
        with pytest.raises(httpx.TransportError):
            await caller.submit(vendor)
        assert len(caller.vendors.renders) == 1
        assert (await caller.submit(vendor)).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "renders"),
    [("refuse_rate", 429, 0), ("server_error", 500, 0), ("server_error_accepted", 504, 1)],
)
@pytest.mark.parametrize("vendor", PATHS)
async def test_a_failed_submission_is_rendered_only_if_it_was_accepted(
    vendor: str, fault: str, status: int, renders: int
) -> None:
    async with calling() as caller:
        caller.vendors.inject(vendor, "submit", fault)
        assert (await caller.submit(vendor)).status_code == status
        assert len(caller.vendors.accepted(vendor)) == renders
        assert not caller.vendors.violations


async def test_an_accepted_submission_can_be_answered_with_an_empty_object() -> None:
    async with calling(Faults(empty_answer=1)) as caller:
        assert (await caller.submit()).json() == {}
        assert len(caller.vendors.renders) == 1


@pytest.mark.parametrize("vendor", BUSY)
async def test_a_vendor_accepts_no_more_live_renders_than_its_limit(vendor: str) -> None:
    async with calling(limits={vendor: 2}, render_seconds=0.3) as caller:
        answers = [await caller.submit(vendor) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["code"] == BUSY[vendor]
        await caller.vendors.idle()
        assert (await caller.submit(vendor)).status_code == 200
        assert caller.vendors.peaks[vendor] == 2


@pytest.mark.parametrize("times", [2, None])
async def test_a_url_is_withheld_a_number_of_times_or_always(times: int | None) -> None:
    async with calling(Faults(no_url=1, no_url_times=times)) as caller:
        last = (await caller.pushed())[-1]
        assert (last.state, VIDEO in last.body.decode()) == ("succeeded", False)
        shown = [VIDEO in (await caller.query(last.vendor_task_id)).text for _ in range(3)]
        assert shown == ([False, True, True] if times else [False] * 3)


async def test_a_new_render_is_not_found_during_the_visibility_lag() -> None:
    async with calling(Faults(visibility_lag=60)) as caller:
        task = (await caller.submit()).json()["data"]["task_id"]
        assert (await caller.query(task)).json()["code"] == 1201
        caller.vendors.faults = Faults()
        assert (await caller.query(task)).json()["data"]["task_id"] == task


@pytest.mark.parametrize("fault", ["server_error", "refuse_rate"])
async def test_a_status_query_can_fail_once(fault: str) -> None:
    async with calling() as caller:
        task = (await caller.submit()).json()["data"]["task_id"]
        caller.vendors.inject("kling", "query", fault)
        assert (await caller.query(task)).status_code in {429, 500}
        assert (await caller.query(task)).status_code == 200


@pytest.mark.parametrize(
    "script", [("unknown", "submit", "cut_answer"), ("kling", "query", "drop_push")]
)
async def test_a_one_shot_that_cannot_happen_is_refused(script: tuple[str, str, str]) -> None:
    async with calling() as caller:
        with pytest.raises(ValueError, match=r"no vendor unknown|cannot happen"):
            caller.vendors.inject(*script)
