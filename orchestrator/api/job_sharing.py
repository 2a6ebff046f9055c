"""Share links of jobs: a page of one job for readers without a key."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import long_poll
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.operation import operation
from orchestrator.api.problems import Refusal
from orchestrator.api.requests import Share
from orchestrator.foundation.clock import rfc3339


@operation("Share a job", responses={201: schemas.ShareLink}, problems=("sharing_disabled",))
async def share(context: RequestContext, body: Share) -> Response:
    """Create a link to a page that shows this job, read only, to readers without a key.

    It holds for `days`, by default for the setting `dashboard.share_days`.
    """
    runtime, job_id = context.runtime, context.id("job")
    or_not_found(await runtime.store.read(long_poll.find_head, job_id), "job")
    if not runtime.share_links.enabled:
        detail = "the settings have no share links: [dashboard] enabled, share_days"
        raise Refusal("sharing_disabled", detail)
    link = runtime.share_links.link_to(job_id, runtime.clock.now(), body.days)
    shown = {"object": "share_link", "job": job_id, "url": link.url}
    return reply(shown | {"expires_at": rfc3339(link.expires_at)}, 201)
