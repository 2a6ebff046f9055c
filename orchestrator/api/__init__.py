"""The HTTP API: JSON under `/v1`, health, metrics and documentation.

Each path has one line here; its handler is in the module of its resource.
"""

from __future__ import annotations

from starlette.routing import Route

from orchestrator.api import (
    account_checks,
    accounts,
    deliveries,
    destinations,
    docs,
    events,
    files,
    health,
    job_pushes,
    job_sharing,
    jobs,
    keys,
    metrics,
    outputs,
    replays,
    stats,
    stream,
    subscriber_explanations,
    subscribers,
)
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.auth.authenticator import Authenticator
from orchestrator.api.database_gauges import Gauges
from orchestrator.api.endpoint import Endpoint, Handler
from orchestrator.api.job_submission import JobSubmission
from orchestrator.api.openapi.document import Document
from orchestrator.engine.runtime import Runtime


def routes(runtime: Runtime, authenticator: Authenticator | None = None) -> list[Route]:
    """Return the routes of the API, with request metrics."""
    return [measured(runtime, route) for route in endpoints(runtime, authenticator)]


def endpoints(runtime: Runtime, authenticator: Authenticator | None = None) -> list[Route]:
    """Return a route to an `Endpoint` for each path. The last routes match any path (404)."""
    authenticator = authenticator or runtime.assemble(Authenticator)
    document = Document(runtime.base)

    def at(path: str, scope: Scope | None = None, **handlers: Handler) -> Route:
        reads, changes = scope or Scope.READ, scope or Scope.WRITE
        endpoint = Endpoint(runtime, authenticator, handlers, reads=reads, changes=changes)
        return Route(path, endpoint)

    def public(path: str, **handlers: Handler) -> Route:
        return Route(path, Endpoint(runtime, authenticator, handlers, reads=None))

    follow = {"GET": stream.follow}
    streams = Endpoint(runtime, authenticator, follow, takes_tickets=True)
    result = [
        Route("/v1/events/stream", streams),
        at("/v1/events/tickets", Scope.READ, POST=stream.ticket),
        at("/v1/subscribers/{id}/explain", Scope.READ, POST=subscriber_explanations.show),
        *(at(path, None, **handlers) for path, handlers in _resources(runtime).items()),
        # What vendors send is not for those who only read jobs.
        at("/v1/jobs/{id}/pushes", Scope.WRITE, GET=job_pushes.ls),
        # The signing key can also forge deliveries: the scope to read jobs is not enough.
        at("/v1/signing-key", Scope.WRITE, GET=accounts.signing_key),
        at("/v1/keys", Scope.ADMIN, GET=keys.ls, POST=keys.create),
        at("/v1/keys/{id}", Scope.ADMIN, GET=keys.show, DELETE=keys.revoke),
        *(public(path, GET=handler) for path, handler in _probes(runtime).items()),
        public("/openapi.json", GET=document.show),
        public("/docs", GET=docs.page),
        public("/docs/", GET=docs.redirect),
        public("/docs/{name:path}", GET=docs.file),
        public("/errors/{code}", GET=docs.explain),
        at("/v1"),
        at("/v1/{rest:path}"),
        public("/{rest:path}"),
    ]
    document.describe(result)
    return result


def _resources(runtime: Runtime) -> dict[str, dict[str, Handler]]:
    """Return the handlers by path and method. GET needs the scope `read`, the others `write`."""
    submission = JobSubmission(runtime)
    checks = runtime.assemble(account_checks.AccountChecks)
    subscriber = {"GET": subscribers.show, "PATCH": subscribers.change}
    return {
        "/v1/jobs": {"GET": jobs.ls, "POST": submission.submit},
        "/v1/jobs/preview": {"POST": submission.preview},
        "/v1/jobs/{id}": {"GET": jobs.show},
        "/v1/jobs/{id}/timeline": {"GET": jobs.history},
        "/v1/jobs/{id}/outputs/{n}": {"GET": outputs.Outputs(runtime).show},
        "/v1/jobs/{id}/cancel": {"POST": jobs.cancel},
        "/v1/jobs/{id}/refresh": {"POST": jobs.refresh},
        "/v1/jobs/{id}/retry": {"POST": submission.retry},
        "/v1/jobs/{id}/share": {"POST": job_sharing.share},
        "/v1/files/upload": {"POST": files.Uploads(runtime).upload},
        "/v1/events": {"GET": events.ls},
        "/v1/events/{id}": {"GET": events.show},
        "/v1/events/{id}/replay": {"POST": replays.of_event},
        "/v1/subscribers": {"GET": subscribers.ls, "POST": subscribers.create},
        "/v1/subscribers/{id}": {**subscriber, "DELETE": subscribers.remove},
        "/v1/subscribers/{id}/test": {"POST": subscribers.test},
        "/v1/subscribers/{id}/pause": {"POST": subscribers.pause},
        "/v1/subscribers/{id}/resume": {"POST": subscribers.resume},
        "/v1/subscribers/{id}/rotate-secret": {"POST": subscribers.rotate},
        "/v1/subscribers/{id}/replay": {"POST": replays.of_subscriber},
        "/v1/destinations": {"GET": destinations.ls},
        "/v1/replays": {"GET": replays.ls, "POST": replays.create},
        "/v1/replays/{id}": {"GET": replays.show},
        "/v1/replays/{id}/cancel": {"POST": replays.cancel},
        "/v1/deliveries": {"GET": deliveries.ls},
        "/v1/deliveries/{id}": {"GET": deliveries.show},
        "/v1/deliveries/{id}/retry": {"POST": deliveries.retry},
        "/v1/accounts": {"GET": accounts.ls},
        "/v1/accounts/{name}": {"GET": accounts.show},
        "/v1/accounts/{name}/check": {"POST": checks.check},
        "/v1/accounts/{name}/history": {"GET": stats.of_account},
        "/v1/stats": {"GET": runtime.assemble(stats.Statistics).show},
    }


def routes_of_worker(runtime: Runtime) -> list[Route]:
    """Return the routes of a process with the role `worker`: its probes, and 503 for all else.

    Not 404: after that a vendor does not send its push again.
    """
    authenticator = runtime.assemble(Authenticator)
    methods = ("GET", "POST", "PATCH", "PUT", "DELETE")
    handlers: dict[str, dict[str, Handler]] = {
        **{path: {"GET": handler} for path, handler in _probes(runtime).items()},
        "/{rest:path}": dict.fromkeys(methods, health.not_served),
    }
    return [
        measured(runtime, Route(path, Endpoint(runtime, authenticator, by_method, reads=None)))
        for path, by_method in handlers.items()
    ]


def _probes(runtime: Runtime) -> dict[str, Handler]:
    exposition = metrics.Exposition(runtime.metrics, runtime.assemble(Gauges), runtime.pulse)
    return {
        "/healthz": health.alive,
        "/readyz": runtime.assemble(health.ReadinessProbe).probe,
        "/metrics": exposition.show,
    }


def measured(runtime: Runtime, route: Route) -> Route:
    """Return a route with request metrics."""
    app = metrics.Measured(route.app, route.path, runtime.clock, runtime.metrics)
    return Route(route.path, app)
