"""JSON for callers: everything under `/v1`, and health. One line for each path; what it does stands in its module."""

from __future__ import annotations

from starlette.routing import Route

from orchestrator.api import (
    account_checks,
    accounts,
    deliveries,
    docs,
    events,
    files,
    health,
    jobs,
    keys,
    metrics,
    replays,
    stream,
    subscribers,
)
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.auth.authenticator import Authenticator
from orchestrator.api.endpoint import Endpoint, Handler
from orchestrator.api.job_submission import JobSubmission
from orchestrator.api.openapi.document import Document
from orchestrator.engine.runtime import Runtime


def routes(runtime: Runtime) -> list[Route]:
    """Return the routes, measured."""
    return [metrics.measured(runtime, route) for route in doors(runtime)]


def doors(runtime: Runtime) -> list[Route]:
    """Return a door for each path. The last ones answer for all that are nobody's, so they come after all others."""
    gate, intake, document = Authenticator(runtime), JobSubmission(runtime), Document(runtime.base)

    def at(path: str, **handlers: Handler) -> Route:
        return Route(path, Endpoint(runtime, gate, handlers))

    def secret(path: str, needs: Scope, **handlers: Handler) -> Route:
        return Route(path, Endpoint(runtime, gate, handlers, reads=needs, changes=needs))

    def public(path: str, handler: Handler) -> Route:
        return Route(path, Endpoint(runtime, gate, {"GET": handler}, reads=None))

    made = [
        at("/v1/jobs", GET=jobs.ls, POST=intake.submit),
        at("/v1/jobs/{id}", GET=jobs.show),
        at("/v1/jobs/{id}/timeline", GET=jobs.history),
        at("/v1/jobs/{id}/cancel", POST=jobs.cancel),
        at("/v1/jobs/{id}/refresh", POST=jobs.refresh),
        at("/v1/jobs/{id}/retry", POST=intake.retry),
        at("/v1/files/upload", POST=files.upload),
        at("/v1/events", GET=events.ls),
        at("/v1/events/stream", GET=stream.follow),
        at("/v1/events/{id}", GET=events.show),
        at("/v1/events/{id}/replay", POST=replays.of_event),
        at("/v1/subscribers", GET=subscribers.ls, POST=subscribers.create),
        at(
            "/v1/subscribers/{id}",
            GET=subscribers.show,
            PATCH=subscribers.change,
            DELETE=subscribers.remove,
        ),
        at("/v1/subscribers/{id}/test", POST=subscribers.test),
        at("/v1/subscribers/{id}/pause", POST=subscribers.pause),
        at("/v1/subscribers/{id}/resume", POST=subscribers.resume),
        at("/v1/subscribers/{id}/rotate-secret", POST=subscribers.rotate),
        at("/v1/subscribers/{id}/replay", POST=replays.of_subscriber),
        at("/v1/replays", GET=replays.ls, POST=replays.create),
        at("/v1/replays/{id}", GET=replays.show),
        at("/v1/replays/{id}/cancel", POST=replays.cancel),
        at("/v1/deliveries", GET=deliveries.ls),
        at("/v1/deliveries/{id}", GET=deliveries.show),
        at("/v1/deliveries/{id}/retry", POST=deliveries.retry),
        at("/v1/accounts", GET=accounts.ls),
        at("/v1/accounts/{name}", GET=accounts.show),
        at("/v1/accounts/{name}/check", POST=account_checks.AccountChecks().check),
        # Whoever holds the signing key can also forge deliveries: reading jobs is not enough.
        secret("/v1/signing-key", Scope.WRITE, GET=accounts.signing_key),
        secret("/v1/keys", Scope.ADMIN, GET=keys.ls, POST=keys.create),
        secret("/v1/keys/{id}", Scope.ADMIN, GET=keys.show, DELETE=keys.revoker(gate)),
        *probes(runtime),
        public("/openapi.json", document.show),
        public("/docs", docs.page),
        public("/docs/", docs.back),
        public("/docs/{name:path}", docs.file),
        public("/errors/{code}", docs.explain),
        at("/v1"),
        at("/v1/{rest:path}"),
        Route("/{rest:path}", Endpoint(runtime, gate, {}, reads=None)),
    ]
    document.tells_of(made)
    return made


def routes_of_worker(runtime: Runtime) -> list[Route]:
    """Return what a process that only works answers: its health, and to whoever was led here by mistake, "later".

    A vendor that hears 404 does not come again.
    """
    elsewhere = dict.fromkeys(("GET", "POST", "PATCH", "PUT", "DELETE"), health.elsewhere)
    closed = Endpoint(runtime, Authenticator(runtime), elsewhere, reads=None, changes=Scope.READ)
    return [
        metrics.measured(runtime, route)
        for route in (*probes(runtime), Route("/{rest:path}", closed))
    ]


def probes(runtime: Runtime) -> list[Route]:
    """Return what anybody may ask."""
    gate = Authenticator(runtime)
    asked: dict[str, Handler] = {"/healthz": health.alive, "/readyz": health.Readiness().probe}
    asked["/metrics"] = metrics.Exposition(runtime).show
    return [
        Route(path, Endpoint(runtime, gate, {"GET": answer}, reads=None))
        for path, answer in asked.items()
    ]
