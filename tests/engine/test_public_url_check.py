"""The public URL is checked by callbacks to ourselves; what changes is announced once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.database.tables import event
from orchestrator.engine.public_url_check import FAILURES, PublicUrlCheck
from orchestrator.foundation.errors import Blocked
from orchestrator.foundation.signing import callback_probe
from orchestrator.foundation.signing.secret_keys import Keys
from tests.harness.engine import event_bodies
from tests.harness.runtime import Harness, open_harness

Answer = Callable[[httpx.Request], httpx.Response]


def ours(h: Harness) -> Answer:
    """Return the answers of this service."""

    def answer(request: httpx.Request) -> httpx.Response:
        token = request.url.path.rpartition("/")[2]
        pong = callback_probe.pong(h.runtime.keys, token, h.clock.now())
        return httpx.Response(200, json={"pong": pong})

    return answer


def unreachable(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused, https://hooks.example.com/callbacks/PING/secret-token")


async def events(h: Harness) -> list[str]:
    return [one["type"] for one in await event_bodies(h) if one["type"].startswith("ingress.")]


async def checked(h: Harness, check: PublicUrlCheck, answer: Answer, times: int = 1) -> None:
    h.network.answer = answer
    for _ in range(times):
        await check.run()
        h.clock.advance(60)


async def test_an_outage_and_its_end_are_announced_once(h: Harness) -> None:
    check = h.runtime.assemble(PublicUrlCheck)
    await checked(h, check, ours(h), 2)
    began = h.clock.now()
    await checked(h, check, unreachable, FAILURES - 1)
    assert await events(h) == []
    await checked(h, check, unreachable, 3)
    assert await events(h) == ["ingress.unreachable"]
    await checked(h, check, ours(h), 3)
    assert await events(h) == ["ingress.unreachable", "ingress.recovered"]
    lost, ended = [one["data"] for one in await event_bodies(h)]
    assert lost == ended
    assert lost["url"] == h.runtime.settings.base_url
    assert lost["reason"] == "not_sent"
    assert lost["since"] == began.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert "secret-token" not in str(await event_bodies(h))


async def test_another_process_goes_on_from_what_was_announced(h: Harness) -> None:
    first, second = (h.runtime.assemble(PublicUrlCheck) for _ in range(2))
    await checked(h, first, unreachable, FAILURES)
    await checked(h, second, unreachable, FAILURES)
    assert await events(h) == ["ingress.unreachable"]
    # A third one starts after the outage, with its end still to be announced.
    await checked(h, h.runtime.assemble(PublicUrlCheck), ours(h))
    await checked(h, first, ours(h))
    assert await events(h) == ["ingress.unreachable", "ingress.recovered"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"pong": "forged"}'),
        (200, b'{"pong": null}'),
        (200, b"[" * 100_000),
        (200, b"<html>Sign in</html>"),
        (302, b""),
        (502, b"\xff\xfe"),
    ],
)
async def test_what_is_not_our_signed_answer_is_a_failure(
    h: Harness, status: int, body: bytes
) -> None:
    check = h.runtime.assemble(PublicUrlCheck)
    await checked(h, check, lambda _: httpx.Response(status, content=body), FAILURES)
    assert await events(h) == ["ingress.unreachable"]
    (lost,) = await event_bodies(h)
    assert str(status) in lost["data"]["reason"]
    page = h.runtime.metrics.exposition(h.runtime.metrics._own).decode()
    assert "orchestrator_public_url_reachable 0.0" in page


async def test_the_answer_of_another_deployment_is_a_failure(h: Harness) -> None:
    foreign = Keys(["another-deployment-" + "k" * 32])

    def answer(request: httpx.Request) -> httpx.Response:
        nonce = callback_probe.ping(foreign, "n", h.clock.now())
        return httpx.Response(
            200, json={"pong": callback_probe.pong(foreign, nonce, h.clock.now())}
        )

    check = h.runtime.assemble(PublicUrlCheck)
    await checked(h, check, answer, FAILURES)
    assert await events(h) == ["ingress.unreachable"]


async def test_an_address_that_policy_forbids_is_not_checked(h: Harness) -> None:
    def blocked(_: httpx.Request) -> httpx.Response:
        raise Blocked("127.0.0.1 is forbidden")

    await checked(h, h.runtime.assemble(PublicUrlCheck), blocked, FAILURES + 1)
    assert await events(h) == []


async def test_the_newest_event_is_read_along_its_index(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await checked(h, h.runtime.assemble(PublicUrlCheck), unreachable, FAILURES)
        count = sa.select(sa.func.count()).select_from(event)
        assert (await h.runtime.store.read(lambda tx: tx.scalar(count))) == 1
