"""Fixtures: the server of each kind, started once in a process, and a pool that reaches it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.engine.deliver_publishers import PublisherPool
from tests.brokers.server import BrokerServer
from tests.brokers.servers import load


def each_kind(*, creates_streams: bool = True) -> list[Any]:
    """Return every kind, or those whose broker creates no stream by itself.

    Those that need more than `.venv` has are for `make test-brokers`.
    """
    return [
        pytest.param(kind, marks=pytest.mark.brokers if server.needs else ())
        for kind, server in sorted(load().items())
        if creates_streams or server.missing is not BrokerServer.missing
    ]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BrokerServer]]:
    """Servers that run, by kind: each is started by the first test that wants it."""
    with contextlib.ExitStack() as stack:

        class Servers(dict[str, BrokerServer]):
            def __missing__(self, kind: str) -> BrokerServer:
                self[kind] = server = load()[kind](tmp_path_factory.mktemp(kind))
                stack.enter_context(server.running())
                return server

        yield Servers()


@pytest.fixture(params=each_kind())
async def server(request: pytest.FixtureRequest, running: dict[str, BrokerServer]) -> BrokerServer:
    """A running server of each kind, with an empty target."""
    found = running[request.param]
    await found.prepare()
    return found


@pytest.fixture(params=each_kind())
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerServer]:
    """A server of each kind that the test starts and kills."""
    made = load()[request.param](tmp_path)
    yield made
    made.kill()


@pytest.fixture
async def pool() -> AsyncIterator[PublisherPool]:
    """A pool that may reach loopback."""
    made = PublisherPool(BrokerLoop(AddressPolicy(["127.0.0.0/8"])))
    yield made
    await made.aclose()
