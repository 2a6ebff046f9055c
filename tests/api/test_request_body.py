"""Bodies that are no JSON object, and trouble that is ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.foundation.errors import Unavailable
from tests.api.test_support import calling


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff\xfe{\x00}\x00", {}, 400),
        (b'{"model": "\xed\xa0\x80"}', {}, 400),
        (b'{"model": NaN}', {}, 400),
        (b'{"model": -Infinity}', {}, 400),
        (b'{"model": ' + b"9" * 5000 + b"}", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"input": ' + b'{"extra":' * 70 + b"1" + b"}" * 71, {}, 400),
        (b'{"model": "\\ud800"}', {}, 422),
        (b'{"\\udfff": 1}', {}, 422),
        (b'{"model": "\\u0000"}', {}, 422),
        (b'{"metadata": {"n": 1e999}}', {}, 422),
        (b"[]", {}, 422),
        (b"null", {}, 422),
        (b"{", {"content-type": "text/plain"}, 400),
        (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 400),
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip"}, 415),
        (b"{}", {"content-type": "Application/JSON ; charset=utf-8"}, 422),
        (b'"' + b"x" * (1 << 20) + b'"', {}, 413),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    tmp_path: Path, content: bytes, headers: dict[str, str], status: int
) -> None:
    async with calling(tmp_path) as api:
        await api.call("POST", "/v1/jobs", status, content=content, headers=headers)


@pytest.mark.parametrize(
    "name", ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded"]
)
async def test_json_is_json_whatever_it_is_called_and_nothing_is_nothing(
    tmp_path: Path, name: str
) -> None:
    """curl -d and aiohttp name a type of their own where the caller named none."""
    async with calling(tmp_path) as api:
        body = b'{"account": "main", "model": "kling-v3", "input": {"prompt": "a"}}'
        made = await api.call("POST", "/v1/jobs", 202, content=body, headers={"content-type": name})
        await api.call(
            "POST", f"/v1/jobs/{made.json()['id']}/cancel", 200, headers={"content-type": name}
        )


async def test_a_body_without_a_length_is_refused_while_it_streams(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while sent < 1 << 24:
                sent += 1 << 18
                yield b"x" * (1 << 18)

        await api.call("POST", "/v1/jobs", 413, content=endless())


async def test_trouble_of_ours_is_a_503_and_a_bug_a_500_that_says_nothing(
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
