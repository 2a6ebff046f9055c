"""The composition root: settings in, ASGI application out. Nothing is assembled anywhere else."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import cache, partial

from orchestrator.foundation.extras import require

require("server")

import httpx
from starlette.applications import Starlette
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from orchestrator import __version__
from orchestrator.api import measured, routes, routes_of_worker
from orchestrator.api.auth.authenticator import Authenticator
from orchestrator.api.callbacks import CallbackEndpoint
from orchestrator.api.cors import CorsMiddleware
from orchestrator.api.root_path import RootPathMiddleware
from orchestrator.api.sending import with_room
from orchestrator.dashboard import entrance
from orchestrator.database.postgres.engine import is_postgres
from orchestrator.database.store import Store
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.late_transport import LateTransport
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.engine.first_claims import FirstClaims
from orchestrator.engine.lifecycle import running
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.push_pacing import PushPacing
from orchestrator.engine.receive import Receiver
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.ticker import Pulse
from orchestrator.events import destinations
from orchestrator.events.feed import EventFeed
from orchestrator.foundation.admission import Admission, Limit, SharedAdmission
from orchestrator.foundation.authorities import check_authorities, client_context
from orchestrator.foundation.clock import Clock, DisciplinedClock, Rng, SystemClock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.settings import NO_KEYS, Settings, ensure_secret_keys
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.orders import OrderBuilder
from orchestrator.jobs.share_links import ShareLinks
from orchestrator.vendors.registry import bind_vendor

#: Callers that are kept waiting at the same time. Each costs about 50 kB.
MAX_WAITING = 1000
#: Requests of the API that are being read, and the bytes of their bodies; what one key may have.
MAX_BODIES, BODY_BYTES, BODY_BYTES_PER_KEY = 4000, 128 << 20, 48 << 20
#: Responses over 64 KiB that are being sent, and their bytes: of all, and of a key.
RESPONSE_LIMITS = Limit(4000, 128 << 20), Limit(2000, 48 << 20)
#: Pushes in process, and the bytes of their bodies: of all, of an account, and of a job's token.
PUSH_LIMITS = Limit(2000, 64 << 20), Limit(1500, 48 << 20), Limit(250, 8 << 20)


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
    """Assemble a runtime. Tests pass a `transport` for the network, and a `store`."""
    check_role(settings)
    settings = ensure_secret_keys(settings)
    clock, rng = DisciplinedClock(clock or SystemClock()), rng or random.SystemRandom()
    keys, store = _keys(settings), store or Store(settings.database_url)
    ids, metrics, policy = Ids(clock, rng), Metrics(), AddressPolicy(settings.allow_private)
    http_client, submission_client = _clients(settings, policy, transport)
    vendors = {name: bind_vendor(account, clock) for name, account in settings.accounts.items()}
    learning = Learning(store, vendors, clock, plans=settings.role != "api")
    feed = EventFeed(store, clock, timedelta(days=settings.retention_days))
    notifier = Notifier(store, feed, vendors, metrics, clock, learning)
    return Runtime(
        settings=settings,
        clock=clock,
        rng=rng,
        ids=ids,
        keys=keys,
        store=store,
        learning=learning,
        ledger=Ledger(vendors, ids, clock, settings.base_url, learning),
        http_client=http_client,
        submission_client=submission_client,
        publishers=PublisherPool(BrokerLoop(policy), settings.ca_file),
        address_policy=policy,
        vendors=vendors,
        destinations={kind: one.configured(settings) for kind, one in destinations.load().items()},
        orders=OrderBuilder(keys, settings.base_url),
        share_links=ShareLinks(keys, settings.base_url, settings.dashboard),
        metrics=metrics,
        feed=feed,
        notifier=notifier,
        push_pacing=PushPacing(),
        first_claims=FirstClaims(notifier, store, clock),
        pulse=Pulse(clock),
        waiting_slots=Admission(rng, Limit(MAX_WAITING), Limit(settings.waiting_per_key)),
        bodies=_body_admission(rng, settings.submissions_per_key),
        responses=SharedAdmission(Admission(rng, *RESPONSE_LIMITS)),
    )


def _keys(settings: Settings) -> Keys:
    return Keys([key.get_secret_value() for key in settings.secret_keys])


def _clients(
    settings: Settings, policy: AddressPolicy, transport: httpx.AsyncBaseTransport | None
) -> tuple[HttpClient, HttpClient]:
    """Return the client of queries and deliveries, and that of submissions."""
    if transport is not None:
        return HttpClient(transport), HttpClient(transport)
    check_authorities(settings.ca_file)
    tls = cache(partial(client_context, settings.ca_file))

    def made(fresh: bool) -> httpx.AsyncBaseTransport:
        # Here: see `LateTransport`.
        from orchestrator.egress.transport import GuardedTransport

        return GuardedTransport(policy, fresh=fresh, tls=tls())

    repeatable, once = (LateTransport(partial(made, fresh)) for fresh in (False, True))
    return HttpClient(repeatable), HttpClient(once)


def _body_admission(rng: Rng, places_per_key: int) -> Admission:
    return Admission(rng, Limit(MAX_BODIES, BODY_BYTES), Limit(places_per_key, BODY_BYTES_PER_KEY))


def check(settings: Settings) -> None:
    """Raise `ConfigError` for mistakes that show before anything is created or opened."""
    check_role(settings)
    if not settings.secret_keys and settings.database_file is None:
        raise ConfigError(NO_KEYS)
    check_authorities(settings.ca_file)
    for account in settings.accounts.values():
        bind_vendor(account, SystemClock())


def check_role(settings: Settings) -> None:
    """Raise `ConfigError` for a role other than `all` on SQLite, which serves one process."""
    if settings.role != "all" and not is_postgres(settings.database_url):
        raise ConfigError(
            f"role is {settings.role!r}, but SQLite serves one process, which does all; "
            "use PostgreSQL"
        )


def application(runtime: Runtime) -> Starlette:
    """Return the ASGI application of a runtime. Its stages run for as long as its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running(runtime):
            yield

    worker = runtime.settings.role == "worker"
    app = Starlette(
        routes=routes_of_worker(runtime) if worker else _all_routes(runtime), lifespan=lifespan
    )
    # Servers call this on SIGTERM: they wait for open responses, streams included, before they
    # end the lifespan.
    app.state.close = runtime.feed.close
    app.state.metrics = runtime.metrics
    stack = app.build_middleware_stack()
    if origins := runtime.settings.cors_origins:
        stack = CorsMiddleware(stack, origins)
    # In front of all middleware: every push passes here, and the endpoint renders its own errors.
    app.middleware_stack = RootPathMiddleware(
        stack if worker else callback_endpoint(stack, runtime)
    )
    return app


def _all_routes(runtime: Runtime) -> list[Route]:
    """Return the routes of the API, and before them those of the dashboard, which calls it."""
    authenticator = runtime.assemble(Authenticator)
    of_api, is_enabled = routes(runtime, authenticator), runtime.settings.dashboard.enabled
    pages = entrance.routes(partial(_pages, runtime, authenticator, of_api)) if is_enabled else []
    return [entrance.route(has_dashboard=is_enabled), *pages, *of_api]


def _pages(runtime: Runtime, authenticator: Authenticator, of_api: list[Route]) -> Router:
    """Return the dashboard."""
    # Here: they are loaded with the first request of a page.
    from orchestrator.dashboard import routes as dashboard
    from orchestrator.dashboard.endpoint import Dashboard
    from orchestrator.dashboard.recent_answers import RecentAnswers
    from orchestrator.dashboard.rendering import Renderer
    from orchestrator.dashboard.session import Sessions

    base = runtime.base
    pages = Dashboard(
        api=Router(of_api),
        sessions=Sessions(runtime.keys, runtime.clock, authenticator, base.startswith("https:")),
        renderer=Renderer(runtime.clock, __version__, base, runtime.settings.delivery.policy),
        origins=frozenset({"/".join(base.split("/", 3)[:3])}),
        opens_links=runtime.share_links.enabled,
        recent=RecentAnswers(runtime.clock),
        with_room=lambda response, key: with_room(response, runtime.responses, key),
    )
    return Router([measured(runtime, route) for route in dashboard.routes(pages)])


def callback_endpoint(
    app: ASGIApp, runtime: Runtime, admission: Admission | None = None
) -> CallbackEndpoint:
    """Return the callback endpoint of a runtime, in front of an application."""
    return CallbackEndpoint(
        app=app,
        receiver=runtime.assemble(Receiver),
        admission=admission or Admission(runtime.rng, *PUSH_LIMITS),
        clock=runtime.clock,
        keys=runtime.keys,
        metrics=runtime.metrics,
        vendors=runtime.vendors,
    )
