"""Share links over HTTP: who may make one, for how long, and where they are turned off."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.api.auth.api_keys import Scope
from tests.api.test_support import calling, submitted


async def test_a_link_shows_one_job_for_as_long_as_was_asked(tmp_path: Path) -> None:
    async with calling(tmp_path, dashboard={"share_days": 2}) as api:
        job = await submitted(api)
        path = f"/v1/jobs/{job['id']}/share"
        for body, days in ((None, 2), ({}, 2), ({"days": None}, 2), ({"days": 30}, 30)):
            made = await api.post(path, 201, body)
            base, _, token = made["url"].rpartition("/")
            assert base == f"{api.runtime.base}/dashboard/shared"
            now = api.clock.now()
            assert api.runtime.keys.open_share(token, now) == made["job"] == job["id"]
            expires = datetime.fromisoformat(made["expires_at"])
            assert abs(expires - now - timedelta(days=days)) < timedelta(minutes=1)
        for wrong in (0, 366, 1.5, "7", True):
            await api.post(path, 422, {"days": wrong})
        await api.post(f"/v1/jobs/{api.runtime.ids('job')}/share", 404)
        await api.post(path, 403, headers=await api.key(Scope.READ))


@pytest.mark.parametrize("dashboard", [{"share_days": 0}, {"enabled": False}])
async def test_links_that_are_turned_off_are_refused_with_the_reason(
    tmp_path: Path, dashboard: dict[str, object]
) -> None:
    async with calling(tmp_path, dashboard=dashboard) as api:
        job = await submitted(api)
        problem = await api.post(f"/v1/jobs/{job['id']}/share", 409, {"days": 7})
        assert problem["code"] == "sharing_disabled"
        assert "share_days" in problem["detail"]
