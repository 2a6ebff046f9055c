"""Name resolution: dead names delay no other name, no literal address and no exit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.egress import resolver
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.resolver import GuardedResolver, LookupTimeout
from orchestrator.foundation.errors import Blocked, NotSent
from tests.harness.raw_http import LOOPBACK, OK, open_client, post, responding, serving


class Names:
    """A fake `getaddrinfo`: names that start with `dead` are not answered until `release`."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.address = "127.0.0.1"
        self.released = threading.Event()

    def __call__(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked[host] += 1
        if host.startswith("dead"):
            self.released.wait(30)
        if host.startswith(("dead", "missing")):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, 0))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(resolver, "WAIT", 0.2)
    yield found
    found.released.set()


async def look_up(found: GuardedResolver, *hosts: str) -> list[Any]:
    return await asyncio.gather(
        *(found.resolve(host, 80) for host in hosts), return_exceptions=True
    )


async def test_dead_names_delay_neither_a_healthy_name_nor_a_literal_address(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's own pool has four threads under uvloop, and every connection waits for them."""
    monkeypatch.setattr(resolver, "WAIT", 30)
    async with serving(responding(OK)) as server, open_client() as client:
        dead = [
            asyncio.create_task(client.send(post(f"http://dead{n}.example/"), deadline=30))
            for n in range(60)
        ]
        await asyncio.sleep(0)
        for host in ("healthy.example", "127.0.0.1"):
            answer = await client.send(post(server.url(host=host)), deadline=5)
            assert answer.content == b"ok"
        assert not any(task.done() for task in dead)
        monkeypatch.setattr(resolver, "WAIT", 0.2)
        names.released.set()
        ends = await asyncio.gather(*dead, return_exceptions=True)
    assert all(isinstance(end, NotSent) for end in ends)


async def test_a_name_that_is_not_answered_is_an_error_of_its_own(names: Names) -> None:
    async with open_client() as client:
        with pytest.raises(NotSent) as caught:
            await client.send(post("http://dead.example/"), deadline=30)
    assert caught.value.kind == "dns_timeout"


async def test_names_that_resolve_keep_their_room_in_a_storm_of_dead_ones(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_ALL", 3)
    monkeypatch.setattr(resolver, "_UNPROVEN", 2)
    monkeypatch.setattr(resolver, "TTL", 0.0)
    found = GuardedResolver(LOOPBACK)
    await found.resolve("known.example", 80)
    storm = asyncio.create_task(look_up(found, *(f"dead{n}" for n in range(9))))
    await asyncio.sleep(0)
    assert (await found.resolve("known.example", 80))[0]["host"] == "127.0.0.1"
    assert all(isinstance(end, LookupTimeout) for end in await storm)
    assert len(+names.asked) == 3, "two threads for the dead, however many they are"
    await found.close()


async def test_a_name_is_looked_up_once_for_all_that_wait(names: Names) -> None:
    found = GuardedResolver(LOOPBACK)
    await look_up(found, *["one.example"] * 50, *["dead"] * 50)
    assert names.asked == {"one.example": 1, "dead": 1}


async def test_a_lookup_that_takes_too_long_is_waited_for_once(names: Names) -> None:
    found = GuardedResolver(LOOPBACK)
    await look_up(found, "dead")
    with pytest.raises(LookupTimeout):
        async with asyncio.timeout(0.1):
            await found.resolve("dead", 80)
    names.released.set()
    async with asyncio.timeout(5):
        while True:
            (end,) = await look_up(found, "dead")
            if not isinstance(end, LookupTimeout):
                break
            await asyncio.sleep(0)
    assert isinstance(end, socket.gaierror)
    assert names.asked["dead"] == 1


async def test_an_address_is_used_for_a_while_and_a_failure_for_less(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = GuardedResolver(LOOPBACK)
    for _ in range(3):
        await look_up(found, "one.example", "missing.example")
    assert names.asked == {"one.example": 1, "missing.example": 1}
    assert resolver.NEGATIVE_TTL < resolver.TTL <= 30
    monkeypatch.setattr(resolver, "TTL", 0.0)
    moved = GuardedResolver(LOOPBACK)
    await moved.resolve("one.example", 80)
    names.address = "127.0.0.2"
    assert (await moved.resolve("one.example", 80))[0]["host"] == "127.0.0.2"


async def test_a_failure_that_is_used_again_keeps_nothing_of_those_that_met_it(
    names: Names,
) -> None:
    found = GuardedResolver(LOOPBACK)
    for host, kind in (("missing.example", socket.gaierror), ("dead", LookupTimeout)):
        first, again = (await look_up(found, host) + await look_up(found, host))[:2]
        assert type(first) is type(again) is kind
        assert (first.errno, str(first)) == (again.errno, str(again))
        assert first is not again
        assert len(traceback.extract_tb(again.__traceback__)) <= 2
        kept = found._answers[host].error
        assert kept is not None
        frames = traceback.extract_tb(kept.__traceback__)
        assert not [frame for frame in frames if frame.name in ("resolve", "look_up")]


async def test_the_policy_is_asked_for_a_cached_address_too(names: Names) -> None:
    found = GuardedResolver(AddressPolicy())
    for _ in range(2):
        with pytest.raises(Blocked):
            await found.resolve("one.example", 80)


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "x..y", "\udcff.example"])
async def test_a_name_that_cannot_be_looked_up_is_an_error_of_the_name(host: str) -> None:
    with pytest.raises(socket.gaierror):
        await GuardedResolver(LOOPBACK).resolve(host, 80)


def test_a_lookup_delays_no_exit(names: Names) -> None:
    async def gives_up() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await GuardedResolver(LOOPBACK).resolve("dead", 80)

    asyncio.run(gives_up())
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "resolver")
