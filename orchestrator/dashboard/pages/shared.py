"""Shared jobs: one job, read only, for a reader with a link and without a key."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.dashboard.api_calls import Api, ApiProblem, Json
from orchestrator.dashboard.endpoint import Dashboard
from orchestrator.dashboard.pages import job
from orchestrator.dashboard.session import AddressLimit
from orchestrator.foundation.errors import BadToken
from orchestrator.foundation.in_process import SHARED

_GONE = {
    "title": "Not found",
    "detail": "the link is not valid, or it has expired; ask for a new one",
    "status": HTTPStatus.NOT_FOUND,
}

_OFTEN = {
    "title": "Too many requests",
    "detail": "this address has opened many links; come back in a moment",
    "status": HTTPStatus.TOO_MANY_REQUESTS,
}


@dataclass(frozen=True, slots=True)
class Shared:
    """Opens links. What may identify callers and subscribers is left out of the page."""

    dashboard: Dashboard
    #: Pages of links that an address opens.
    opened: AddressLimit

    async def show(self, request: Request, form: FormData) -> Response:
        """Show the job of a link, or the same page for every link that does not open."""
        sessions, token = self.dashboard.sessions, request.path_params["token"]
        if wait := self.opened.admit(request.client.host if request.client else ""):
            response = self._problem(request, _OFTEN)
            response.headers["retry-after"] = str(int(wait) + 1)
            return response
        try:
            job_id = sessions.keys.open_share(token, sessions.clock.now())
            if not self.dashboard.opens_links:
                return self._problem(request, _GONE)
            values = await self._read(request, job_id)
        except BadToken:
            return self._problem(request, _GONE)
        except ApiProblem as error:
            is_gone = error.status == HTTPStatus.NOT_FOUND
            return self._problem(request, _GONE if is_gone else error.document)
        response = self.dashboard.renderer.respond(
            request, "shared.html", HTTPStatus.OK, {**values, "reader": None}
        )
        # The link is the key: no other site may learn it, and no search engine keep it.
        response.headers["referrer-policy"] = "no-referrer"
        response.headers["x-robots-tag"] = "noindex, nofollow"
        return response

    async def _read(self, request: Request, job_id: str) -> Json:
        api = Api(self.dashboard.api, SHARED, request.scope)
        found = await api.get(f"/v1/jobs/{job_id}")
        return await job.timeline(api, found, request.query_params.get("after"))

    def _problem(self, request: Request, problem: Json) -> Response:
        values = {"problem": problem, "reader": None}
        status = int(problem.get("status", HTTPStatus.SERVICE_UNAVAILABLE))
        return self.dashboard.renderer.respond(request, "problem.html", status, values)
