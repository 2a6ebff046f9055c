"""The retry policy of a subscriber over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.test_support import calling, subscribed

pytestmark = pytest.mark.usefixtures("everywhere")
OWN = {"schedule": ["5s", "1m", 90], "deadline": 10.0, "final_statuses": [400, 404]}
NONE = {"schedule": None, "deadline": None, "final_statuses": None}


async def test_a_retry_policy_is_given_changed_and_cleared(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api, retry=OWN)
        assert made["retry"] == OWN
        assert made["retry_in_force"] == OWN | {"schedule": [5, 60, 90]}
        plain = await subscribed(api)
        assert plain["retry"] is None
        default = plain["retry_in_force"]
        assert (default["schedule"][0], default["deadline"]) == (5, 15)
        path = f"/v1/subscribers/{made['id']}"
        for given, shown in (
            ({"description": "as before"}, OWN),
            ({"retry": {"deadline": 120}}, NONE | {"deadline": 120}),
            ({"retry": {"final_statuses": []}}, NONE | {"final_statuses": []}),
            ({"retry": {}}, None),
            ({"retry": OWN}, OWN),
            ({"retry": None}, None),
        ):
            assert (await api.call("PATCH", path, 200, given)).json()["retry"] == shown
            there = await api.get(path)
            assert there["retry"] == shown
            own = {name: value for name, value in (shown or {}).items() if value is not None}
            own |= {"schedule": [5, 60, 90]} if "schedule" in own else {}
            assert there["retry_in_force"] == default | own


@pytest.mark.parametrize(
    ("retry", "pointer", "message"),
    [
        ({"schedule": []}, "/retry/schedule", "at least 1 item"),
        ({"schedule": ["1s"] * 51}, "/retry/schedule", "at most 50 items"),
        ({"schedule": "5s"}, "/retry/schedule", "list"),
        ({"schedule": ["5s", "5 s"]}, "/retry/schedule/1", "should be seconds, or like 5s"),
        ({"schedule": ["5s", None]}, "/retry/schedule/1", "should be seconds, or like 5s"),
        ({"schedule": ["8d"]}, "/retry/schedule/0", "should be from 1s to 7d"),
        ({"schedule": [10**400]}, "/retry/schedule/0", "should be from 1s to 7d"),
        ({"deadline": 121}, "/retry/deadline", "less than or equal to 120"),
        ({"deadline": "10"}, "/retry/deadline", "number"),
        ({"final_statuses": [200]}, "/retry/final_statuses/0", "greater than or equal to 300"),
        ({"final_statuses": [404.5]}, "/retry/final_statuses/0", "integer"),
        ({"deadlines": 1}, "/retry/deadlines", "no such field"),
        ([], "/retry", "object"),
    ],
)
async def test_a_fault_of_a_retry_policy_is_pointed_at(
    tmp_path: Path, retry: Any, pointer: str, message: str
) -> None:
    async with calling(tmp_path) as api:
        given = {"url": "https://my.app/hook", "retry": retry}
        answer = await api.call("POST", "/v1/subscribers", 422, given)
        (fault,) = answer.json()["errors"]
        assert fault["pointer"] == pointer
        assert message in fault["message"]
