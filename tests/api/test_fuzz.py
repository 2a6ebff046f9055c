"""Random requests to every path get a documented status, and never a 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.test_support import PATHS, Caller, calling, is_problem

pytestmark = pytest.mark.long

IDS = st.sampled_from(["job", "evt", "sub", "dlv", "key"]).map(
    lambda prefix: f"{prefix}_01kb7x3m5tf6a8r2w9n4c1d0eh"
)
TEXTS = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["job.*", "https://my.app/x", "main", "\x00"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | IDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
NAMES = st.sampled_from([
    "account", "model", "capability", "input", "external_task_id", "callback_url",
    "callback_events", "metadata", "deadline", "kind", "url", "types", "description", "headers",
    "options", "rate_limit", "max_in_flight", "name", "scope", "expires_at", "since", "until",
    "status", "grace_seconds", "limit", "after", "created_after", "type",
])  # fmt: skip
GOOD = (
    st.just({"model": "m", "input": {"prompt": "p"}})
    | st.just({"url": "https://my.app/x"})
    | st.just({"name": "n"})
)
BODIES = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.tuples(GOOD, st.dictionaries(NAMES, JSON, max_size=3)).map(
        lambda two: json.dumps(two[0] | two[1]).encode()
    )
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "prefer",
            "if-none-match",
            "idempotency-key",
            "content-type",
            "x-request-id",
            "content-length",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12)
    | st.sampled_from(["wait=0", '"v1"', "application/json", "multipart/form-data; boundary=x"]),
    max_size=2,
)
#: 500 is not among them, and 503 is for outages.
DOCUMENTED = {200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 409, 413, 415, 422}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Caller]]:
    """One service for all examples, and the loop that it runs on."""
    with asyncio.Runner() as runner:
        opened = calling(tmp_path_factory.mktemp("fuzz"))
        yield runner, runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@settings(max_examples=30, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(PATHS),
            IDS | TEXTS,
            st.dictionaries(NAMES | TEXTS, TEXTS, max_size=2),
            BODIES,
            HEADERS,
        ),
        min_size=8,
        max_size=20,
    )
)
def test_every_status_is_documented(
    service: tuple[asyncio.Runner, Caller], requests: list[Any]
) -> None:
    runner, api = service
    runner.run(_all(api, requests))


async def _all(api: Caller, requests: list[Any]) -> None:
    for request in requests:
        (method, path), name, query, body, headers = request
        path = path.replace("x", quote(name, errors="replace"), 1)
        response = await _send(api, method, path, query, body, headers)
        assert response.status_code in DOCUMENTED, (request, response.text)
        if response.status_code >= 400:
            is_problem(response)
        elif response.content:
            json.loads(response.content)


async def _send(
    api: Caller, method: str, path: str, query: Any, body: bytes, headers: Any
) -> httpx.Response:
    pairs = "&".join(
        f"{quote(k, errors='replace')}={quote(v, errors='replace')}" for k, v in query.items()
    )
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    # Long polls are tested elsewhere.
    kept = [(name, value) for name, value in raw if name != b"prefer" or value in (b"wait=0", b"")]
    return await api.http.request(method, f"{path}?{pairs}", content=body, headers=kept)
