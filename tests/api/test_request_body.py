"""Bodies under other types and without a length; outages and bugs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import request_body
from orchestrator.foundation.errors import Problem, Unavailable
from tests.api.test_support import calling


@pytest.mark.parametrize(
    "name", ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded"]
)
async def test_json_is_accepted_under_any_content_type(tmp_path: Path, name: str) -> None:
    """curl -d and aiohttp set their own type where the caller sets none. A body may be absent."""
    async with calling(tmp_path) as api:
        body = b'{"account": "main", "model": "kling-v3", "input": {"prompt": "a"}}'
        made = await api.call("POST", "/v1/jobs", 202, content=body, headers={"content-type": name})
        await api.call(
            "POST", f"/v1/jobs/{made.json()['id']}/cancel", 200, headers={"content-type": name}
        )


def test_a_wide_and_deep_body_costs_little_memory() -> None:
    # The last value is refused, so that all of them are looked at.
    levels = request_body._MAX_DEPTH - 2
    wide = ('{"%s":' % ("~" * 64)) * levels + "[" + "0," * 20_000 + '"\\u0000"]' + "}" * levels
    tracemalloc.start()
    try:
        with pytest.raises(Problem):
            request_body.parse(wide.encode())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


async def test_a_body_without_a_length_is_refused_while_it_streams(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while sent < 2 * request_body.SUBMISSION_CAP:
                sent += 1 << 20
                yield b"x" * (1 << 20)

        await api.call("POST", "/v1/jobs", 413, content=endless())
        assert sent <= request_body.SUBMISSION_CAP + (1 << 20)


async def test_an_outage_is_503_and_a_bug_is_500_without_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        errors = iter(
            [Unavailable("the disk is full: /secret/path", retry_after=7), RuntimeError("hunter2")]
        )

        async def fail(*_: object) -> None:
            raise next(errors)

        monkeypatch.setattr(api.runtime.store, "read", fail)
        down = await api.call("GET", "/v1/jobs", 503)
        assert (down.headers["retry-after"], down.json()["code"]) == ("7", "unavailable")
        assert "secret" not in down.text
        bug = await api.call("GET", "/v1/jobs", 500)
        assert "hunter2" not in bug.text
