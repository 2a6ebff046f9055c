"""The demo's processes in one: simulated vendors, a subscriber, and the real service."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn

from orchestrator.cli.failure import Failure
from orchestrator.client import AsyncClient
from orchestrator.foundation.masking import API_KEY_PREFIX
from orchestrator.foundation.settings import Settings
from orchestrator.simulator import Faults, SimulatedVendors, Subscriber
from orchestrator.simulator.accounts import SIMULATED, account_settings


@dataclass(frozen=True, slots=True)
class Scenario:
    """The options of a demo. `speed` divides every time; the rest are shares of 1."""

    seed: int = 1
    speed: float = 1.0
    drop_push: float = 0.33
    duplicate_push: float = 0.1
    fail_render: float = 0.0
    odd_shapes: float = 0.25

    def faults(self) -> Faults:
        """Return the faults of the simulated vendors."""
        return Faults(
            drop_push=self.drop_push,
            duplicate_push=self.duplicate_push,
            fail_render=self.fail_render,
            odd_shapes=self.odd_shapes,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs."""

    world: SimulatedVendors
    subscriber: Subscriber
    client: AsyncClient


@contextlib.asynccontextmanager
async def staged(scenario: Scenario) -> AsyncIterator[Stage]:
    """Run vendors, subscriber and service; nothing of them is left afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-demo-"))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2048))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        subscriber = await stack.enter_async_context(Subscriber())
        world = await stack.enter_async_context(
            SimulatedVendors(scenario.seed, 2.0 / scenario.speed, scenario.faults())
        )
        settings = _settings(scenario, world.base_url, url, folder)
        await stack.enter_async_context(_serving(settings, listening))
        client = AsyncClient(url, settings.api_keys[0].get_secret_value())
        await stack.enter_async_context(client)
        yield Stage(world, subscriber, client)


def _settings(scenario: Scenario, world: str, url: str, folder: str) -> Settings:
    """Return settings with every simulated account and short times without a push."""
    silence = {
        "first_after": 4,
        "interval": 2,
        "max_interval": 4,
        "visibility_lag": 1,
        "output_grace": 10,
    }
    poll = {name: seconds / scenario.speed for name, seconds in silence.items()}
    return Settings.model_validate(
        {
            "public_url": url,
            "database_url": f"sqlite:///{folder}/orchestrator.db",
            "allow_private": ["127.0.0.0/8"],
            "api_keys": [f"{API_KEY_PREFIX}{secrets.token_urlsafe(32)}"],
            "accounts": {
                name: {**account_settings(world, name), "poll": poll} for name, _ in SIMULATED
            },
        }
    )


class _Server(uvicorn.Server):
    """Signals when it is ready, and leaves Ctrl-C to the demo, which shuts down in order."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(settings: Settings, listening: socket.socket) -> AsyncIterator[None]:
    # Here: commands that only call a server start without the service.
    from orchestrator.app import create_app

    config = uvicorn.Config(create_app(settings), lifespan="on", access_log=False, log_config=None)
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await server.ready.wait()
        if not server.started:
            raise Failure("the service did not start", hint="the log above says why")
        yield
    finally:
        server.should_exit = True
        await running
