"""A transport that is loaded late: once, on a thread, and what a request reports stays true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import httpx
import pytest

from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.late_transport import LateTransport
from orchestrator.foundation.errors import ConfigError, NotSent

REQUEST = httpx.Request("GET", "http://vendor.example")


class Making:
    """Makes transports, once it may."""

    def __init__(self, fault: ConfigError | None = None) -> None:
        self.may = threading.Event()
        self.threads: list[threading.Thread] = []
        self._fault = fault

    def __call__(self) -> httpx.AsyncBaseTransport:
        self.threads.append(threading.current_thread())
        assert self.may.wait(10)
        if self._fault is not None:
            raise self._fault
        return httpx.MockTransport(lambda _: httpx.Response(204))


@pytest.fixture
def make() -> Making:
    return Making()


def client(make: Callable[[], httpx.AsyncBaseTransport]) -> HttpClient:
    return HttpClient(LateTransport(make))


async def test_it_is_made_once_and_off_the_loop(make: Making) -> None:
    late = client(make)
    loading = asyncio.create_task(late.load())
    sending = [asyncio.create_task(late.send(REQUEST, deadline=10)) for _ in range(3)]
    await asyncio.sleep(0)
    make.may.set()
    assert [response.status_code for response in await asyncio.gather(*sending)] == [204] * 3
    await loading
    assert len(make.threads) == 1
    assert threading.main_thread() not in make.threads


async def test_loaded_before_no_request_waits_for_it(make: Making) -> None:
    late = client(make)
    make.may.set()
    await late.load()
    assert (await late.send(REQUEST, deadline=10)).status_code == 204
    assert len(make.threads) == 1
    await late.aclose()


async def test_a_deadline_that_ends_meanwhile_sent_nothing(make: Making) -> None:
    late = client(make)
    with pytest.raises(NotSent, match="no answer"):
        await late.send(REQUEST, deadline=0.01)
    make.may.set()
    assert (await late.send(REQUEST, deadline=10)).status_code == 204


async def test_authorities_that_are_gone_by_then_are_named_and_read_again() -> None:
    make = Making(ConfigError("ca_file: gone.pem cannot be read"))
    make.may.set()
    late = client(make)
    with pytest.raises(ConfigError, match="ca_file"):
        await late.load()
    with pytest.raises(NotSent, match=r"vendor\.example: ca_file: gone\.pem"):
        await late.send(REQUEST, deadline=10)
    assert len(make.threads) == 2


async def test_one_that_was_never_needed_is_closed(make: Making) -> None:
    await client(make).aclose()
    assert not make.threads
