"""Settings in, ASGI application out. Everything is put together here, by name, and nothing anywhere else."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette

from orchestrator.api import routes, routes_of_worker
from orchestrator.api.callbacks import CallbackEndpoint
from orchestrator.api.root_path import RootPathMiddleware
from orchestrator.database.postgres.engine import is_postgres
from orchestrator.database.store import Store
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from orchestrator.engine.lifecycle import running
from orchestrator.engine.receive import Receiver
from orchestrator.engine.runtime import Runtime
from orchestrator.events import destinations
from orchestrator.foundation.clock import Clock, DisciplinedClock, Rng, SystemClock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.settings import NO_KEYS, Settings, ensure_secret_keys
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.jobs.ledger import Ledger
from orchestrator.vendors.registry import accounts, bind_vendor


def create_app(settings: Settings) -> Starlette:
    """Return the service. Raises `ConfigError` before anything is opened."""
    return application(build(settings))


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    rng: Rng | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    store: Store | None = None,
) -> Runtime:
    """Put a runtime together. `transport` stands in for the internet, `store` for the database, in tests."""
    check_role(settings)
    settings = ensure_secret_keys(settings)
    clock, rng = clock or SystemClock(), rng or random.SystemRandom()
    store = store or Store(settings.database_url)
    clock = DisciplinedClock(clock) if store.shared else clock
    keys = Keys([key.get_secret_value() for key in settings.secret_keys])
    ids = Ids(clock, rng)
    guard = AddressPolicy(settings.allow_private)
    bound = {name: bind_vendor(account, clock) for name, account in accounts(settings).items()}
    return Runtime(
        settings=settings,
        clock=clock,
        rng=rng,
        ids=ids,
        keys=keys,
        store=store,
        ledger=Ledger(bound, ids, clock, settings.public_url.rstrip("/")),
        http_client=HttpClient(transport or GuardedTransport(guard)),
        submission_client=HttpClient(transport or GuardedTransport(guard, fresh=True)),
        address_policy=guard,
        vendors=bound,
        destinations=destinations.load(),
    )


def check(settings: Settings) -> None:
    """Raise `ConfigError` for what can be seen to be wrong before anything is made or opened."""
    check_role(settings)
    if not settings.secret_keys and settings.database_file is None:
        raise ConfigError(NO_KEYS)
    for account in accounts(settings).values():
        bind_vendor(account, SystemClock())


def check_role(settings: Settings) -> None:
    """Raise `ConfigError` for a part of the work where one process has to do all of it."""
    if settings.role != "all" and not is_postgres(settings.database_url):
        raise ConfigError(
            f"role is {settings.role!r}, but SQLite serves one process, which does all; use PostgreSQL"
        )


def application(runtime: Runtime) -> Starlette:
    """Return the ASGI application of a runtime: its doors, and the loops for as long as it lives."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running(runtime):
            yield

    worker = runtime.settings.role == "worker"
    app = Starlette(
        routes=routes_of_worker(runtime) if worker else routes(runtime), lifespan=lifespan
    )
    # For the server to call when it is told to end: it waits for every answer before it ends the lifespan.
    app.state.close = runtime.feed.close
    stack = app.build_middleware_stack()
    # In front of all middleware: every push passes here, and the door answers for its own errors.
    app.middleware_stack = RootPathMiddleware(
        stack if worker else CallbackEndpoint(stack, Receiver(runtime))
    )
    return app
