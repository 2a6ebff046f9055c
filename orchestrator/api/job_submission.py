"""Jobs begin here: a submission is checked against the dialect, then owned, then answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from orchestrator import schemas
from orchestrator.api import long_poll, problems, request_body
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.idempotency import fingerprint, idempotency_key
from orchestrator.api.operation import answer, operation
from orchestrator.api.requests import Empty, Submission, as_written
from orchestrator.database.store import Tx
from orchestrator.engine.runtime import Runtime
from orchestrator.events.subscribers import callback_lane
from orchestrator.foundation.admission import Admission, Slot, content_length
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Blocked, Conflict, Problem
from orchestrator.foundation.states import Capability
from orchestrator.jobs.creation import Accepted, create_jobs
from orchestrator.jobs.ledger import Note
from orchestrator.schemas.jobs import is_final
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.order import Order

Row = Mapping[Any, Any]
Draft = dict[str, Any]

#: Bytes of bodies in hand at once. Read into values, the worst of them come to thirty times that.
_ROOM = 16 << 20


_SAID = ("Location", "ETag", "Preference-Applied", "Idempotent-Replayed")
_TAKEN_ON = answer(schemas.Job, *_SAID, "Retry-After", says="Taken on")
_ENDED = answer(schemas.Job, *_SAID, says="It ended within `Prefer: wait`")


class JobSubmission:
    """Takes jobs on. Submissions that arrive together share a commit; those there is no room for are 503, unread."""

    def __init__(self, runtime: Runtime, admission: Admission | None = None) -> None:
        self._runtime = runtime
        self._admission = admission or Admission(runtime.rng, body_bytes=_ROOM)
        self._accept = runtime.store.batched(self._own)

    @operation(
        "Submit a job",
        answers={202: _TAKEN_ON, 200: _ENDED},
        refuses=("unsupported", "external_task_id_taken", "idempotency_key_reused"),
        takes=("Idempotency-Key", "Prefer"),
        body=Submission,
    )
    async def submit(self, call: RequestContext) -> Response:
        """It is kept before it is answered, and survives whatever happens then.

        A render costs money: send an `Idempotency-Key`, and send the same again when no answer came. Gateway document
        0's form is taken too, with `callback_url` and `external_task_id` inside `input`.
        """
        size = content_length(call.request.headers.get("content-length"))
        # One that is too large is refused as that, and nothing of it is read.
        with self._admission.admit(size if size <= request_body.BODY_CAP else 0) as place:
            accepted = await self._accept(await self._submission(call, place))
        return await self._answer(call, accepted)

    async def _submission(self, call: RequestContext, place: Slot) -> Draft:
        """Return the job a caller asks for. Raises `Problem` and `Unavailable`."""
        key = idempotency_key(call)
        said = await request_body.json_of(
            Request(call.request.scope, _held(call.request.receive, place))
        )
        try:
            return self._asked_for(call, key, said)
        except Problem as problem:
            raise as_written(problem, said) from None

    def _asked_for(self, call: RequestContext, key: str | None, said: Any) -> Draft:
        body = request_body.validated(Submission, said)
        vendor = account_named(self._runtime, body.account)
        given = body.input.given()
        draft = self._draft(call, vendor, key, fingerprint(said)) | {
            "model": body.model,
            "capability": body.capability or vendor.infer_capability(given),
            "input": given,
            "callback_url": checked_url(self._runtime, "/callback_url", body.callback_url),
            "callback_events": body.callback_events,
            "metadata": body.metadata,
        }
        draft["external_task_id"] = body.external_task_id or draft["id"]
        draft["deadline_at"] = after(
            draft["created_at"], body.deadline or vendor.account.poll.deadline
        )
        vendor.check(_order(draft))
        return draft

    @operation(
        "Retry a job",
        answers={202: _TAKEN_ON, 200: _ENDED},
        refuses=("conflict", "unsupported", "idempotency_key_reused"),
        takes=("Idempotency-Key", "Prefer"),
        body=Empty,
    )
    async def retry(self, call: RequestContext) -> Response:
        """The same work again, as a new job with a new external id. The old one has to be final."""
        # What it repeats may be as large as a body was.
        with self._admission.admit(request_body.BODY_CAP):
            accepted = await self._accept(await self._repetition(call))
        return await self._answer(call, accepted)

    async def _repetition(self, call: RequestContext) -> Draft:
        """Return the job that does the same work as one that is final. Raises `Problem` and `Unavailable`."""
        key = idempotency_key(call)
        await call.body(Empty, optional=True)
        old = await long_poll.until(self._runtime, call.id("job"), 0, is_final)
        if not is_final(old):
            raise Conflict(
                f"{old['id']} is {old['state']}; only a final job can be retried", job_id=old["id"]
            )
        vendor = self._runtime.vendors.get(old["account"])
        if vendor is None:
            raise Conflict(f"the account {old['account']} is configured no more", job_id=old["id"])
        same = ("model", "capability", "input", "callback_url", "callback_events", "metadata")
        # A key counts on its path alone. No caller's own key reads like this: it would have to be printable.
        key = f"{key}\n{old['id']}" if key else None
        draft = self._draft(call, vendor, key, fingerprint({"retry_of": old["id"]})) | {
            name: old[name] for name in same
        }
        patience = (old["deadline_at"] - old["created_at"]).total_seconds()
        draft |= {"external_task_id": draft["id"], "retry_of": old["id"]}
        draft["deadline_at"] = after(draft["created_at"], patience)
        vendor.check(_order(draft))
        return draft

    def _draft(
        self, call: RequestContext, vendor: Vendor, key: str | None, fingerprint: str
    ) -> Draft:
        now = self._runtime.clock.now()
        return {
            "id": self._runtime.ids("job"),
            "account": vendor.account.name,
            "vendor": vendor.name,
            "api_key": call.caller.id,
            "idempotency_key": key,
            "fingerprint": fingerprint if key else None,
            "created_at": now,
            "due_at": now,
        }

    async def _answer(self, call: RequestContext, accepted: Accepted | Problem) -> Response:
        if isinstance(accepted, Problem):
            raise accepted
        row: Row = accepted.job
        if not accepted.replayed:
            self._runtime.metrics.submitted(row["vendor"], row["model"])
        self._runtime.notifier.wake("submit")
        # The job is taken on: without a place to wait in, the answer is only sooner.
        wait = None if self._runtime.waiting_slots.is_full else long_poll.preferred(call.request)
        if wait is not None:
            with self._runtime.waiting_slots.admit():
                row = await long_poll.until(self._runtime, row["id"], wait, is_final)
        status = 200 if wait is not None and is_final(row) else 202
        response = long_poll.shown(
            self._runtime, row, status, location=f"{self._runtime.base}/v1/jobs/{row['id']}"
        )
        response.headers.update(long_poll.applied(wait))
        if accepted.replayed:
            response.headers["idempotent-replayed"] = "true"
        return response

    def _own(self, tx: Tx, drafts: list[Draft]) -> list[Accepted | Problem]:
        """Unit of work: own the jobs, each with the lane its callback URL's deliveries will wait in."""
        runtime = self._runtime
        now = runtime.clock.now()
        for draft in drafts:
            url = draft["callback_url"]
            draft["callback_lane"] = (
                callback_lane(tx, runtime.ids, url, runtime.keys.encrypt, now) if url else None
            )
        accepted = create_jobs(tx, drafts)
        fresh = [
            one.job
            for one in accepted
            if isinstance(one, Accepted) and not one.replayed and one.job["retry_of"]
        ]
        notes = [
            Note(first, "operator", {"action": "retry", "by": row["api_key"], "job": row["id"]})
            for row in fresh
            if (first := row["retry_of"])
        ]
        runtime.ledger.note(tx, notes, now)
        return accepted


def _held(receive: Receive, place: Slot) -> Receive:
    """Return `receive` that holds what comes: a body need not announce its size."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        place.hold(size)
        return message

    return counted


def account_named(runtime: Runtime, account: str | None) -> Vendor:
    """Return the vendor of an account, or of the only one. Raises a 422 `Problem`."""
    vendors = runtime.vendors
    if account is None and len(vendors) == 1:
        return next(iter(vendors.values()))
    if account is None:
        raise problems.fault(
            "/account",
            "missing",
            f"Name one of {len(vendors)} accounts; GET /v1/accounts lists them",
        )
    if account not in vendors:
        raise problems.fault(
            "/account", "unknown_account", "No such account; GET /v1/accounts lists them"
        )
    return vendors[account]


def _order(draft: Draft) -> Order:
    return Order(
        draft["id"],
        draft["model"],
        Capability(draft["capability"]),
        draft["input"],
        draft["external_task_id"],
    )


def checked_url(runtime: Runtime, pointer: str, url: str | None) -> str | None:
    """Return a caller's URL. Raises a 422 `Problem` if it can be seen that it will never be reached."""
    if url is not None:
        try:
            # Both of its readers must make sense of it: the guard's, and the one that finds its origin.
            urlsplit(url)
            runtime.address_policy.check_url(url)
        except (Blocked, ValueError) as error:
            raise problems.fault(pointer, "blocked_address", str(error)) from None
    return url
