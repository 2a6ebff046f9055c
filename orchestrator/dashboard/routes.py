"""The routes of the dashboard.

Each path has one line here; its handlers are in the module of its page.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.routing import Route

from orchestrator.dashboard.endpoint import Dashboard, Endpoint, Handler, Public
from orchestrator.dashboard.entrance import PREFIX
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
    subscriber_explanations,
    subscriber_forms,
    subscribers,
    try_job,
)
from orchestrator.dashboard.session import AddressLimit

#: The handlers of pages by path and method.
PAGES: Mapping[str, Mapping[str, Handler]] = {
    "": {"GET": overview.show},
    "/": {"GET": overview.home},
    "/stream": {"GET": static.stream},
    "/jobs": {"GET": jobs.ls},
    "/jobs/{id}": {"GET": job.show},
    "/jobs/{id}/outputs/{n}": {"GET": job.output},
    "/jobs/{id}/events/{event}/replay": {"POST": job.replay},
    "/jobs/{id}/share": {"POST": job.share},
    "/jobs/{id}/{action}": {"POST": job.act},
    "/try": {"GET": try_job.show, "POST": try_job.act},
    "/deliveries": {"GET": deliveries.ls},
    "/deliveries/{id}": {"GET": deliveries.show},
    "/deliveries/{id}/resend": {"POST": deliveries.resend},
    "/subscribers": {"GET": subscribers.ls, "POST": subscriber_forms.create},
    "/subscribers/new": {"GET": subscriber_forms.new},
    "/subscribers/{id}": {"GET": subscribers.show},
    "/subscribers/{id}/edit": {"GET": subscriber_forms.edit, "POST": subscriber_forms.change},
    "/subscribers/{id}/explain": {
        "GET": subscriber_explanations.show,
        "POST": subscriber_explanations.ask,
    },
    "/subscribers/{id}/{action}": {"POST": subscribers.act},
    "/replays": {"GET": replays.ls},
    "/replays/new": {"GET": replays.RESENDS.preview, "POST": replays.RESENDS.begin},
    "/replays/retry": {"GET": replays.RETRIES.preview, "POST": replays.RETRIES.begin},
    "/replays/{id}": {"GET": replays.show},
    "/replays/{id}/cancel": {"POST": replays.cancel},
    "/accounts": {"GET": accounts.ls},
    "/accounts/{name}": {"GET": accounts.show, "POST": accounts.check},
    "/events": {"GET": events.ls},
    "/events/{id}": {"GET": events.show},
    "/events/{id}/replay": {"POST": events.replay},
    "/keys": {"GET": keys.ls, "POST": keys.create},
    "/keys/{id}/revoke": {"POST": keys.revoke},
    # Any other path: not found.
    "/{rest:path}": {},
}


def routes(dashboard: Dashboard) -> list[Route]:
    """Return a route for each page, those that need no session first."""
    entry = sign_in.SignIn(dashboard.sessions, dashboard.renderer)
    links = shared.Shared(dashboard, AddressLimit(dashboard.sessions.clock, burst=60, seconds=1.0))
    public: Mapping[str, Mapping[str, Public]] = {
        "/shared/{token}": {"GET": links.show},
        "/static/{digest}/{name}": {"GET": static.show},
        "/sign-in": {"GET": entry.show, "POST": entry.enter},
        "/sign-out": {"POST": entry.leave},
        "/preferences": {"POST": entry.prefer},
    }
    return [
        *(Route(PREFIX + path, Endpoint(dashboard, {}, one)) for path, one in public.items()),
        *(Route(PREFIX + path, Endpoint(dashboard, one, {})) for path, one in PAGES.items()),
    ]
