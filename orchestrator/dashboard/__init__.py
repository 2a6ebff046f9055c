"""The dashboard: pages for people, made of what the API answers.

Each path has one line here; its handlers are in the module of its page. There is no SQL and no
rule of its own: a page calls the API in process, with the rights of the reader's key.
"""

from __future__ import annotations

from starlette.routing import Route

from orchestrator.dashboard.endpoint import Dashboard, Endpoint, Handler, Public
from orchestrator.dashboard.pages import (
    accounts,
    deliveries,
    events,
    job,
    jobs,
    keys,
    overview,
    replays,
    shared,
    sign_in,
    static,
    subscribers,
    try_job,
)

#: Below the public URL.
PREFIX = "/dashboard"


def routes(dashboard: Dashboard) -> list[Route]:
    """Return a route for each page. The last one matches any path below the prefix (404)."""

    def at(path: str, **handlers: Handler) -> Route:
        return Route(PREFIX + path, Endpoint(dashboard, handlers, {}))

    def public(path: str, **handlers: Public) -> Route:
        return Route(PREFIX + path, Endpoint(dashboard, {}, handlers))

    entry = sign_in.SignIn(dashboard.sessions, dashboard.renderer)
    links = shared.Shared(dashboard)
    return [
        public("/shared/{token}", GET=links.show),
        public("/static/{digest}/{name}", GET=static.show),
        public("/sign-in", GET=entry.show, POST=entry.enter),
        public("/sign-out", POST=entry.leave),
        public("/preferences", POST=entry.prefer),
        at("", GET=overview.show),
        at("/", GET=overview.home),
        at("/stream", GET=static.stream),
        at("/jobs", GET=jobs.ls),
        at("/jobs/{id}", GET=job.show),
        at("/jobs/{id}/outputs/{n}", GET=job.output),
        at("/jobs/{id}/events/{event}/replay", POST=job.replay),
        at("/jobs/{id}/share", POST=job.share),
        at("/jobs/{id}/{action}", POST=job.act),
        at("/try", GET=try_job.show, POST=try_job.act),
        at("/deliveries", GET=deliveries.ls),
        at("/deliveries/{id}", GET=deliveries.show),
        at("/deliveries/{id}/resend", POST=deliveries.resend),
        at("/subscribers", GET=subscribers.ls, POST=subscribers.create),
        at("/subscribers/new", GET=subscribers.new),
        at("/subscribers/{id}", GET=subscribers.show),
        at("/subscribers/{id}/{action}", POST=subscribers.act),
        at("/replays", GET=replays.ls),
        at("/replays/new", GET=replays.RESENDS.preview, POST=replays.RESENDS.begin),
        at("/replays/retry", GET=replays.RETRIES.preview, POST=replays.RETRIES.begin),
        at("/replays/{id}", GET=replays.show),
        at("/replays/{id}/cancel", POST=replays.cancel),
        at("/accounts", GET=accounts.ls),
        at("/accounts/{name}", GET=accounts.show, POST=accounts.check),
        at("/events", GET=events.ls),
        at("/events/{id}", GET=events.show),
        at("/events/{id}/replay", POST=events.replay),
        at("/keys", GET=keys.ls, POST=keys.create),
        at("/keys/{id}/revoke", POST=keys.revoke),
        at("/{rest:path}"),
    ]
