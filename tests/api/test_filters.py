"""Filters and the order of subscribers over HTTP, and why an event is or is not received."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.test_support import calling, finished_job, subscribed

pytestmark = pytest.mark.usefixtures("everywhere")
OURS = {"data": {"account": "main"}}
THEIRS = {"data": {"account": "other", "metadata": {"order": {"$startsWith": "x"}}}}


async def test_a_filter_decides_what_is_owed_and_may_be_changed_and_cleared(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api, types=["job.*"], filter=THEIRS, ordered=True)
        plain = await subscribed(api, types=["job.*"])
        assert (made["filter"], made["ordered"]) == (THEIRS, True)
        assert (plain["filter"], plain["ordered"]) == (None, False)
        await finished_job(api)
        path = f"/v1/subscribers/{made['id']}"
        assert await owed(api, made["id"]) == 0
        there = await owed(api, plain["id"])
        assert there > 0
        for change in ({"filter": OURS, "ordered": False}, {"filter": None, "ordered": None}):
            changed = (await api.call("PATCH", path, 200, change)).json()
            assert (changed["filter"], changed["ordered"]) == (change["filter"], False)
            before = await owed(api, made["id"])
            await finished_job(api)
            assert await owed(api, made["id"]) == before + there


async def owed(api: Any, subscriber_id: str) -> int:
    found = await api.get(f"/v1/deliveries?subscriber={subscriber_id}&limit=200")
    return len(found["data"])


async def test_faults_of_a_filter_are_pointed_at(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api)
        path = f"/v1/subscribers/{made['id']}"
        bad = {"data": {"a/b": {"$regex": "x"}, "duration": {"$gt": None}}}
        given = {"url": "https://my.app/hook", "filter": bad}
        for answer in (
            await api.call("POST", "/v1/subscribers", 422, given),
            await api.call("PATCH", path, 422, {"filter": bad}),
        ):
            found = [(one["pointer"], one["code"]) for one in answer.json()["errors"]]
            assert found == [
                ("/filter/data/a~1b/$regex", "filter_operator"),
                ("/filter/data/duration/$gt", "filter_operand"),
            ]
        await api.call("PATCH", path, 422, {"filter": [1]})
        await api.call("PATCH", path, 422, {"ordered": "yes"})


async def test_an_explanation_agrees_with_the_outbox(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        ours = await subscribed(api, types=["job.*"], filter=OURS)
        theirs = await subscribed(api, types=["job.*"], filter=THEIRS)
        await finished_job(api)
        for event in (await api.get("/v1/events"))["data"]:
            first, second = [
                (await explained(api, to, {"event": event["id"]})) for to in (ours, theirs)
            ]
            assert (first["matches"], first["pointer"]) == (True, None)
            assert (second["matches"], second["pointer"]) == (False, "/data/account")
            assert second["reason"] == (
                'The filter does not match at `/data/account`: "other" is wanted, and it is "main".'
            )
            deliveries = await api.get(f"/v1/deliveries?event={event['id']}")
            assert [one["subscriber"] for one in deliveries["data"]] == [ours["id"]]


async def explained(api: Any, to: dict[str, Any], question: dict[str, Any]) -> Any:
    path = f"/v1/subscribers/{to['id']}/explain"
    return (await api.call("POST", path, 200, question)).json()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"data": {}}, "The body has no `type`, which the subscriber's types match."),
        ({"type": "account.paused"}, "None of its types (job.*, subscriber.*) matches"),
        ({"type": "job.failed"}, "The filter does not match at `/data/account`: \"main\" is wanted,"
                                 " and the field is missing."),
        ({"type": "job.failed", "data": {"account": "main"}}, "Its types and its filter match. The "
                                                             "event is delivered."),
    ],
)  # fmt: skip
async def test_an_explanation_is_a_sentence(tmp_path: Path, body: Any, reason: str) -> None:
    async with calling(tmp_path) as api:
        to = await subscribed(api, types=["job.*", "subscriber.*"], filter=OURS)
        found = await explained(api, to, {"body": body})
        assert found["reason"].startswith(reason)
        await api.call("POST", f"/v1/subscribers/{to['id']}/pause", 200)
        paused = await explained(api, to, {"body": body})
        assert paused["matches"] is found["matches"] is ("filter match." in reason)
        assert ("is paused" in paused["reason"]) is found["matches"]


async def test_a_question_names_one_event(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        to = await subscribed(api)
        path = f"/v1/subscribers/{to['id']}/explain"
        about = {"type": "subscriber.failing", "data": {"id": to["id"]}}
        await api.call("PATCH", f"/v1/subscribers/{to['id']}", 200, {"types": ["*"]})
        assert (await explained(api, to, {"body": about}))["matches"] is False
        missing = "evt_00000000000000000000000000"
        await api.call("POST", path, 422, {})
        await api.call("POST", path, 422, {"event": missing, "body": {}})
        await api.call("POST", path, 404, {"event": missing})
        await api.call("POST", path.replace(to["id"][-4:], "0000"), 404, {"body": {}})
