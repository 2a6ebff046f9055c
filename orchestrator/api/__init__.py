"""JSON for callers: everything under `/v1`, and health. One line for each path; what it does stands in its module."""

from __future__ import annotations

from starlette.routing import Route

from orchestrator.api import accounts, deliveries, events, files, health, jobs, keys, replays, stream, subscribers
from orchestrator.api.auth import Gate
from orchestrator.api.door import Door, Handler
from orchestrator.api.intake import Intake
from orchestrator.api.problems import explain
from orchestrator.keyring import Scope
from orchestrator.runtime import Runtime


def routes(runtime: Runtime) -> list[Route]:
    """Return the routes. The last ones answer for every path that is nobody's, so they come after all others."""
    gate, intake = Gate(runtime), Intake(runtime)

    def at(path: str, **handlers: Handler) -> Route:
        return Route(path, Door(runtime, gate, handlers))

    def secret(path: str, needs: Scope, **handlers: Handler) -> Route:
        return Route(path, Door(runtime, gate, handlers, reads=needs, changes=needs))

    return [
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
        at("/v1/subscribers/{id}", GET=subscribers.show, PATCH=subscribers.change, DELETE=subscribers.remove),
        at("/v1/subscribers/{id}/test", POST=subscribers.test),
        at("/v1/subscribers/{id}/pause", POST=subscribers.pause),
        at("/v1/subscribers/{id}/resume", POST=subscribers.resume),
        at("/v1/subscribers/{id}/rotate-secret", POST=subscribers.rotate),
        at("/v1/subscribers/{id}/replay", POST=replays.of_subscriber),
        at("/v1/deliveries", GET=deliveries.ls),
        at("/v1/deliveries/{id}", GET=deliveries.show),
        at("/v1/deliveries/{id}/retry", POST=deliveries.retry),
        at("/v1/accounts", GET=accounts.ls),
        at("/v1/accounts/{name}", GET=accounts.show),
        # Whoever holds the signing key can also forge deliveries: reading jobs is not enough.
        secret("/v1/signing-key", Scope.WRITE, GET=accounts.signing_key),
        secret("/v1/keys", Scope.ADMIN, GET=keys.ls, POST=keys.create),
        secret("/v1/keys/{id}", Scope.ADMIN, DELETE=keys.revoker(gate)),
        *probes(runtime),
        Route("/errors/{code}", explain),
        at("/v1"),
        at("/v1/{rest:path}"),
        Route("/{rest:path}", Door(runtime, gate, {}, reads=None)),
    ]


def routes_of_worker(runtime: Runtime) -> list[Route]:
    """Return what a process that only works answers: its health, and to whoever was led here by mistake, "later".

    A vendor that hears 404 does not come again.
    """
    elsewhere = dict.fromkeys(("GET", "POST", "PATCH", "PUT", "DELETE"), health.elsewhere)
    closed = Door(runtime, Gate(runtime), elsewhere, reads=None, changes=Scope.READ)
    return [*probes(runtime), Route("/{rest:path}", closed)]


def probes(runtime: Runtime) -> list[Route]:
    """Return what anybody may ask."""
    gate = Gate(runtime)
    asked: dict[str, Handler] = {"/healthz": health.alive, "/readyz": health.Readiness()}
    return [Route(path, Door(runtime, gate, {"GET": answer}, reads=None)) for path, answer in asked.items()]
