"""Job submission: a job is checked against the dialect, then stored, then acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import attrgetter

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import job_images, long_poll, request_body
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.idempotency import fingerprints, idempotency_key
from orchestrator.api.operation import ResponseSpec, operation, returns
from orchestrator.api.requests import Retry, Submission, with_sent_pointers
from orchestrator.api.submission_checks import check_size, check_url, start_of, vendor_of
from orchestrator.api.submission_preview import vendor_request
from orchestrator.api.unknown_models import UnknownModels
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation import off_loop
from orchestrator.foundation.admission import Slot
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.json_codec import Raw, encode
from orchestrator.jobs.creation import Accepted
from orchestrator.jobs.intake import JobIntake, check_order
from orchestrator.jobs.retries import number_of
from orchestrator.schemas.base import Json

_HEADERS = ("Location", "ETag", "Preference-Applied", "Idempotent-Replayed")
_IS_FINAL = attrgetter("is_final")
_RESPONSES: Mapping[int | str, ResponseSpec] = {
    202: returns(schemas.Job, *_HEADERS, "Retry-After", description="Accepted"),
    200: returns(schemas.Job, *_HEADERS, description="It ended within `Prefer: wait`"),
}


class JobSubmission:
    """Creates jobs. Concurrent submissions share a commit; without room they get 503, unread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._intake = runtime.assemble(JobIntake)
        self._create = runtime.store.batched(self._intake.create)
        self._unknown_models = UnknownModels()

    @operation(
        "Submit a job",
        responses=_RESPONSES,
        problems=("unsupported", "external_task_id_taken", "idempotency_key_reused"),
        request_headers=("Idempotency-Key", "Prefer"),
        body=Submission,
    )
    async def submit(self, context: RequestContext) -> Response:
        """It is stored before it is acknowledged, and survives any crash after that.

        A render costs money: send an `Idempotency-Key`, and repeat the request with it if no
        response came. Gateway document 0's form is accepted too, with `callback_url` and
        `external_task_id` inside `input`.
        """
        bodies = self._runtime.bodies
        cap = request_body.SUBMISSION_CAP
        with request_body.admit(bodies, context.caller.id, context.request, cap) as slot:
            accepted = await self._create(await self._draft_of(context, slot))
        return await self._answer(context, accepted)

    @operation(
        "Preview a submission",
        responses={200: schemas.VendorRequest},
        problems=("unsupported",),
        body=Submission,
    )
    async def preview(self, context: RequestContext) -> Response:
        """The same checks as a submission, and the request that the vendor would get.

        Nothing is stored and nothing is sent. The request shows no credential, and no token of a
        callback URL; images in Base64 are references.
        """
        runtime, caller = self._runtime, context.caller.id
        cap = request_body.SUBMISSION_CAP
        with request_body.admit(runtime.bodies, caller, context.request, cap) as slot:
            draft = await self._draft_of(context, slot)
            vendor, size = runtime.vendors[draft["account"]], len(encode(draft["input"]))
            shown = await off_loop.callers.run(
                caller, size, vendor_request, vendor, draft, runtime.base
            )
        return reply(shown)

    async def _draft_of(self, context: RequestContext, slot: Slot) -> Json:
        """Return the columns of the submitted job. Raises `Problem` and `Unavailable`."""
        key = idempotency_key(context)
        cap = request_body.SUBMISSION_CAP
        text = await request_body.read_json(context.request, slot, cap)
        caller, size = context.caller.id, len(text)
        return await off_loop.callers.run(caller, size, self._validated, context, key, text)

    def _validated(self, context: RequestContext, key: str | None, text: bytes) -> Json:
        text, images = job_images.taken_from(text)
        body = request_body.parse(text)
        try:
            job_images.check_places(body, images)
            submission = request_body.validate(Submission, body, images)
            draft = self._draft_from(context, submission) | {"images": images}
        except Problem as problem:
            raise with_sent_pointers(problem, body) from None
        if key is not None:
            replaced = job_images.with_references(body)
            # Older versions took a digest of images in a small body, not of their references.
            older = () if replaced is body else (body,)
            draft |= self._idempotent(key, replaced, *older)
        if len(text) >= off_loop.LARGE:
            # From here on only its text is kept.
            draft["input"] = Raw(encode(draft["input"]))
        return draft

    def _draft_from(self, context: RequestContext, submission: Submission) -> Json:
        vendor = vendor_of(self._runtime.vendors, submission.account)
        given, url = submission.input.given(), submission.callback_url
        capability = submission.capability or vendor.infer_capability(given)
        check_url(self._runtime.address_policy, "/callback_url", url)
        check_size(given, submission.metadata)
        draft = self._intake.draft(vendor, context.caller.id) | {
            "model": submission.model,
            "capability": capability,
            "input": given,
            "callback_url": url,
            "callback_events": submission.callback_events,
            "metadata": submission.metadata,
        }
        start = start_of(submission.start_after, draft["created_at"])
        begin, seconds = start or draft["created_at"], submission.deadline
        draft |= {
            "external_task_id": submission.external_task_id or draft["id"],
            "fairness_key": submission.fairness_key or draft["fairness_key"],
            "queue_rank": -(submission.priority or 0),
            "start_after": start,
            "due_at": begin,
            "deadline_at": after(begin, seconds or vendor.account.poll.deadline),
        }
        check_order(vendor, draft)
        return draft

    @operation(
        "Retry a job",
        responses=_RESPONSES,
        problems=("conflict", "already_retried", "unsupported", "idempotency_key_reused"),
        request_headers=("Idempotency-Key", "Prefer"),
        body=Retry,
    )
    async def retry(self, context: RequestContext) -> Response:
        """The same work as a new job with a new external id. The old job has to be final.

        A job of the same work that is live or has succeeded stands in the way: each render costs
        money. `again` ignores it. With `dry_run` nothing is created; the response is the old job.
        """
        # The input of the old job may be as large as a body.
        with self._runtime.bodies.admit(context.caller.id, size=request_body.BODY_CAP):
            body = await context.body(Retry, optional=True)
            draft = await self._repetition_of(context, body)
            if body.dry_run:
                runtime, old_id = self._runtime, draft["retry_of"]
                await runtime.store.read(partial(number_of, again=body.again), old_id)
                old = await runtime.store.read(long_poll.find_job, old_id)
                return long_poll.job_response(runtime, or_not_found(old, "job"))
            accepted = await self._create(draft)
        return await self._answer(context, accepted)

    async def _repetition_of(self, context: RequestContext, body: Retry) -> Json:
        """Return the columns of a job that repeats a final job.

        Raises `Problem` and `Unavailable`.
        """
        key = idempotency_key(context)
        found = await self._runtime.store.read(long_poll.find_job, context.id("job"))
        old, by = or_not_found(found, "job"), context.caller.id
        draft = self._intake.repetition(old, by, again=body.again)
        if key is not None:
            # A key is valid for its path alone. No sent key equals this one: it is not printable.
            again = {"again": True} if body.again else {}
            draft |= self._idempotent(f"{key}\n{old['id']}", {"retry_of": old["id"]} | again)
        vendor, size = self._runtime.vendors[old["account"]], request_body.BODY_CAP
        await off_loop.callers.run(by, size, check_order, vendor, draft)
        return draft

    def _idempotent(self, key: str, *forms: object) -> Json:
        """Return the columns of an Idempotency-Key, and the digests that a repetition may have."""
        prints = fingerprints(self._runtime.keys, *forms)
        return {"idempotency_key": key, "fingerprint": prints[0], "fingerprints": prints}

    async def _answer(self, context: RequestContext, accepted: Accepted | Problem) -> Response:
        if isinstance(accepted, Problem):
            raise accepted
        runtime, row = self._runtime, accepted.job
        if not accepted.replayed:
            runtime.metrics.submitted(row["vendor"], row["model"])
            self._unknown_models.look_at(runtime.vendors[row["account"]], row)
        runtime.notifier.wake("submit")
        # The job is stored: if no slot is free to wait in, the response only comes sooner.
        slots, key = runtime.waiting_slots, context.caller.id
        wait = None if slots.is_full(key) else long_poll.preferred_wait(context.request)
        location = f"{runtime.base}/v1/jobs/{row['id']}"
        if wait is None:
            response = long_poll.job_response(runtime, row, 202, location=location)
        else:
            with slots.admit(key):
                job = await long_poll.wait_for_job(runtime, row["id"], wait, _IS_FINAL)
            status = 200 if job.is_final else 202
            response = await long_poll.stored_job(
                runtime, row["id"], status, wait=wait, location=location
            )
        if accepted.replayed:
            response.headers["idempotent-replayed"] = "true"
        return response
