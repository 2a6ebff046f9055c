"""What a client itself can do, whichever face it has: submit, wait, run, upload, and call what is not wrapped."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue, TypeAdapter, ValidationError

from orchestrator.client import errors, requests, waiting
from orchestrator.client.accounts import Accounts
from orchestrator.client.callbacks import done
from orchestrator.client.connection import Wire
from orchestrator.client.events import Deliveries, Events
from orchestrator.client.jobs import Jobs
from orchestrator.client.keys import Keys
from orchestrator.client.replays import Replays
from orchestrator.client.requests import Request, path
from orchestrator.client.responses import Answer, read
from orchestrator.client.subscribers import Subscribers
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import Job, SigningKey

_JSON: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


class Calls(Resource[FaceT]):
    """One server's calls, by what they are about."""

    def __init__(self, wire: Wire, face: type[FaceT]) -> None:
        super().__init__(wire, face)
        self.jobs: Jobs[FaceT] = Jobs(wire, face)
        self.events: Events[FaceT] = Events(wire, face)
        self.subscribers: Subscribers[FaceT] = Subscribers(wire, face)
        self.deliveries: Deliveries[FaceT] = Deliveries(wire, face)
        self.replays: Replays[FaceT] = Replays(wire, face)
        self.accounts: Accounts[FaceT] = Accounts(wire, face)
        self.keys: Keys[FaceT] = Keys(wire, face)

    @property
    def server(self) -> str:
        """The server's URL."""
        return str(self._wire.target)

    @offered
    async def submit(
        self,
        *,
        model: str,
        input: Mapping[str, object],
        account: str | None = None,
        capability: str | None = None,
        external_task_id: str | None = None,
        callback_url: str | None = None,
        callback_events: str | Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        deadline: float | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """Ask for a video, and return the job. With `wait` the answer is held for up to so many seconds (60 at most).

        `account` may be left out where only one is configured, `capability` where the input decides it; `deadline` is
        in seconds. The call carries `idempotency_key`, else one made for it, so sending it again, as is done when its
        answer is lost, makes no second job. Raises `Invalid` for what the vendor cannot do, `Conflict` for an
        `external_task_id` that another job has.

        >>> job = client.submit(model="kling-v3", input={"prompt": "a cat surfing", "duration": 5})
        >>> job.status
        <JobState.QUEUED: 'queued'>
        """
        request = requests.submission(
            model=model, input=input, account=account, capability=capability, external_task_id=external_task_id,
            callback_url=callback_url, callback_events=callback_events, metadata=metadata, deadline=deadline,
            idempotency_key=idempotency_key, wait=wait,
        )  # fmt: skip
        return read(Job, await self._wire.call(request))

    @offered
    async def wait(
        self,
        job: Job | str,
        *,
        timeout: float | None = None,
        on_change: Callable[[Job], object] | None = None,
    ) -> Job:
        """Return a job (or the job with that id) once it is final, however it ended; see `result`.

        `on_change` hears of every change. The server may restart meanwhile. Raises `WaitTimeout` after `timeout`
        seconds; the job goes on, and may be waited for again.

        >>> client.wait(job, timeout=600, on_change=lambda job: print(job.status, job.progress)).urls
        ['https://...']
        """
        return await waiting.until_final(self._wire, job, timeout, on_change)

    @offered
    async def result(
        self,
        job: Job | str,
        *,
        timeout: float | None = None,
        on_change: Callable[[Job], object] | None = None,
    ) -> Job:
        """Return a job once it has succeeded. Raises `JobFailed` if it ends in any other way; else like `wait`."""
        return waiting.succeeded(await waiting.until_final(self._wire, job, timeout, on_change))

    @offered
    async def run(
        self,
        *,
        model: str,
        input: Mapping[str, object],
        account: str | None = None,
        capability: str | None = None,
        external_task_id: str | None = None,
        callback_url: str | None = None,
        callback_events: str | Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        deadline: float | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        on_change: Callable[[Job], object] | None = None,
    ) -> Job:
        """Submit a job and return it once it has succeeded: `submit`, then `result`.

        >>> client.run(model="kling-v3", input={"prompt": "a cat surfing"}).urls
        ['https://...']
        """
        request = requests.submission(
            model=model, input=input, account=account, capability=capability, external_task_id=external_task_id,
            callback_url=callback_url, callback_events=callback_events, metadata=metadata, deadline=deadline,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        job = read(Job, await self._wire.call(request))
        await done(on_change and on_change(job))
        return waiting.succeeded(await waiting.until_final(self._wire, job, timeout, on_change))

    @offered
    async def upload(
        self,
        file: str | os.PathLike[str] | bytes,
        *,
        kind: str,
        purpose: str,
        account: str | None = None,
        filename: str | None = None,
    ) -> dict[str, JsonValue]:
        """Pass a file (a path, or its bytes) on to a vendor that takes uploads, and return the vendor's answer.

        Raises `Invalid` if the account's vendor takes none, `OSError` if the file cannot be read.
        """
        request = requests.upload(
            file, kind=kind, purpose=purpose, account=account, filename=filename
        )
        try:
            return _JSON.validate_python((await self._wire.call(request)).document)
        except ValidationError as error:
            raise errors.NotOurs("the vendor's answer is no JSON object") from error

    @offered
    async def signing_key(self) -> str:
        """Return the secret that verifies deliveries to a job's own `callback_url`: `Webhook(client.signing_key())`."""
        return read(SigningKey, await self._wire.call(Request("GET", path("signing-key")))).secret

    @offered
    async def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to any call, for what is not wrapped. Raises `ClientError`.

        Query parameters that are None are left out. An `Idempotency-Key` among the headers lets it be sent again.

        >>> client.call("GET", "/v1/jobs", query={"limit": 1}).document["data"]
        [{'id': 'job_01...', ...}]
        """
        return await self._wire.call(
            Request(method.upper(), path, json, query or {}, headers or {})
        )

    @offered
    async def close(self) -> None:
        """Close the connections, unless they are those of `http`."""
        await self._wire.port.close()
