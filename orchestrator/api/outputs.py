"""`GET /v1/jobs/{id}/outputs/{n}`: a file of a job, streamed from its vendor.

For files that the vendor serves only with the account's key, which no caller may have. Nothing is
stored: a stream buffers about 200 kB. The vendor's bytes are not trusted: they are served as a file
that no browser runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypedDict

import httpx
import sqlalchemy as sa
import structlog
from starlette.responses import Response
from starlette.types import Send

from orchestrator.api.endpoint import RequestContext, or_not_found
from orchestrator.api.operation import operation, returns
from orchestrator.api.problems import Refusal
from orchestrator.api.sending import End, StreamedResponse, send_in_chunks
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.rows import fetch
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.admission import Admission, Limit
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Conflict, CutOff, Exchange, NotFound, Problem, Unreadable
from orchestrator.foundation.timeouts import Timeouts
from orchestrator.schemas.jobs import StoredFile, stored_files
from orchestrator.vendors.content import file_request, is_at_vendor, redirect_target
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

#: Files that are streamed at the same time, and those of one key. Each holds about 200 kB.
_LIMITS = Limit(200), Limit(50)
#: Bytes of a file: far more than minutes of 4K video.
_CAP = 8 << 30
#: Seconds for the head of the vendor's response, for its next bytes, and for the whole file.
_HEAD_DEADLINE, _READ_DEADLINE, _DURATION = 30.0, 30.0, 3600.0
#: Seconds before a client is too slow, and bytes a second that give it more.
_PATIENCE, _SLOWEST = 60.0, 16 << 10
#: Seconds that a file may take to end once the process is shutting down.
_LAST = 5.0
_REDIRECTS = 5
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
#: Header fields of the request that the vendor sees, and of its response that the caller sees.
_ASKED = ("range", "if-range", "if-none-match", "if-modified-since")
_SHOWN = ("content-range", "accept-ranges", "etag", "last-modified")
_HEADERS = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Range", "Content-Encoding")
#: Those that belong to its body.
_FRAMING = ("content-length", "content-encoding")
_WITH_FILE = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
_STATUSES = (
    *_WITH_FILE, HTTPStatus.NOT_MODIFIED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
)  # fmt: skip
#: An error page or a status object is not a file, whatever its status.
_NO_FILE = re.compile(r"text/(html|xml)|application/([\w.-]{1,64}\+)?(json|xml)", re.ASCII)
_MEDIA = re.compile(r"(video|image|audio)/[\w.+-]{1,64}", re.ASCII)
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,1024}")
_FILE_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
}
_timeouts = Timeouts()


class _Columns(TypedDict):
    """The columns of `job` that say where its files are."""

    account: str
    vendor: str
    state: str
    output: dict[str, Any] | None


_SELECT = sa.select(*(job.c[name] for name in _Columns.__annotations__))


def _find(tx: Tx, job_id: str) -> _Columns | None:
    return next(iter(fetch(tx, _Columns, _SELECT.where(job.c.id == job_id))), None)


class Outputs:
    """Streams files. How many at a time is bounded, and a quarter of that for each key."""

    def __init__(self, runtime: Runtime) -> None:
        self._admission = Admission(runtime.rng, *_LIMITS)

    @operation(
        "Get an output of a job",
        responses={
            200: returns(
                None,
                *_HEADERS,
                media_type="*/*",
                description="The file, with the vendor's media type if that is a video, an image "
                "or sound",
            ),
            206: returns(
                None,
                *_HEADERS,
                media_type="*/*",
                description="The range of the file that was asked for",
            ),
            304: returns(None, *_HEADERS, description="The caller's copy is current"),
            416: returns(None, *_HEADERS, description="The file has no such range"),
        },
        request_headers=("Range", "If-Range", "If-None-Match", "If-Modified-Since"),
        problems=("conflict", "vendor_error"),
    )
    async def show(self, context: RequestContext) -> Response:
        """The n-th file of a succeeded job, from 0: videos, then images, then audios. It is
        streamed from the vendor as it arrives, also where the vendor serves it only with the
        account's key.
        """
        runtime, job_id = context.runtime, context.id("job")
        row = or_not_found(await runtime.store.read(_find, job_id), "job")
        file = _selected(row, context.request.path_params["n"])
        vendor = runtime.vendors.get(row["account"])
        if file.get("needs_key") and vendor is None:
            account = row["account"]
            raise Conflict(f"the file needs the key of {account}, which is no longer configured")
        keyed = vendor if file.get("needs_key") else None
        source = _Source(runtime.http_client, row["vendor"], keyed)
        fields = _printable(_ASKED, context.request.headers)
        if "," in fields.get("range", ""):
            # The whole file: several ranges come as parts, which no header of ours would name.
            fields = {name: fields[name] for name in fields if "range" not in name}
        async with contextlib.AsyncExitStack() as held:
            held.enter_context(self._admission.admit(context.caller.id))
            response = await source.open(file["url"], fields)
            held.push_async_callback(_stream(response).aclose)
            headers = source.checked(response)
            await context.authenticator.confirm(context.request)
            key_ends = partial(context.authenticator.wait_until_invalid, context.request)
            ends = key_ends, partial(_stopping, runtime)
            return FileStream(response, headers, runtime.clock, ends, held.pop_all())


async def _stopping(runtime: Runtime) -> None:
    """Return when a file has to end for the shutdown. Its client goes on with a range."""
    await runtime.feed.wait_closed()
    await runtime.clock.sleep(_LAST)


def _selected(row: _Columns, number: str) -> StoredFile:
    """Return the file with a number. Raises `Conflict` or `NotFound`."""
    if row["output"] is None:
        raise Conflict(f"the job is {row['state']}: only a succeeded job has outputs")
    files = stored_files(row["output"])
    if not _NUMBER.fullmatch(number) or int(number) >= len(files):
        raise NotFound(f"no such output; the job has {len(files)}, numbered from 0")
    return files[int(number)]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the files of a vendor come from. `keyed`: the vendor whose key they need, if any."""

    client: HttpClient
    vendor: str
    keyed: Vendor | None

    async def open(self, url: str, fields: Mapping[str, str]) -> httpx.Response:
        """Return the response behind redirects, its body unread.

        A redirect to another origin loses the key, for good. Raises a 502 `Problem`.
        """
        keyed = self.keyed
        try:
            for _ in range(_REDIRECTS + 1):
                request = file_request(url, fields, keyed)
                response = await self.client.open(request, deadline=_HEAD_DEADLINE, cap=_CAP)
                if not response.has_redirect_location:
                    return response
                await _stream(response).aclose()
                url = redirect_target(response, url)
                keyed = keyed if keyed is not None and is_at_vendor(url, keyed) else None
        except (Exchange, Unreadable) as error:
            log.warning("a file was not fetched", vendor=self.vendor, error=str(error))
            why = error.kind if isinstance(error, Exchange) else "bad_url"
            raise self.failed(f"did not return the file: {why}") from None
        raise self.failed(f"redirects more than {_REDIRECTS} times")

    def checked(self, response: httpx.Response) -> Mapping[str, str]:
        """Return the header fields for the caller. Raises a 502 `Problem` if it is no file."""
        status, kind = response.status_code, _media_type(response)
        if status not in _STATUSES:
            raise self.failed(f"answered {status} instead of the file", status)
        shown = _FILE_HEADERS | _printable(_SHOWN, response.headers)
        if status not in _WITH_FILE:
            return shown
        if _NO_FILE.fullmatch(kind):
            raise self.failed(f"answered {status} with {kind} instead of the file", status)
        media_type = kind if _MEDIA.fullmatch(kind) else "application/octet-stream"
        return shown | _printable(_FRAMING, response.headers) | {"content-type": media_type}

    def failed(self, what: str, status: int | None = None) -> Problem:
        """Return the problem that there is no file; `status` is that of the response."""
        members = {} if status is None else {"vendor_status": str(status)}
        return Refusal("vendor_error", f"{self.vendor} {what}", **members)


def _printable(names: Sequence[str], headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of the fields that are there, and of printable ASCII."""
    found = {name: headers[name] for name in names if name in headers}
    return {name: value for name, value in found.items() if _PRINTABLE.fullmatch(value)}


def _media_type(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower()


def _stream(response: httpx.Response) -> httpx.AsyncByteStream:
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    return stream


class FileStream(StreamedResponse):
    """Sends a file while it arrives, until the client leaves, reads too slowly, or an end returns.

    A file that breaks off breaks off here too: the response is left incomplete, and its connection
    is closed. `resources` are released at the end.
    """

    def __init__(
        self,
        response: httpx.Response,
        headers: Mapping[str, str],
        clock: Clock,
        ends: Sequence[End],
        resources: contextlib.AsyncExitStack,
    ) -> None:
        super().__init__(response.status_code, ends, _DURATION, resources)
        self.raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._source = _stream(response)
        self._clock = clock
        self._is_whole = True

    async def send_end(self, send: Send) -> None:
        """Complete the response, unless its file broke off."""
        if self._is_whole:
            await super().send_end(send)

    async def send_body(self, send: Send) -> None:
        """Send the file."""
        if self.status_code not in _WITH_FILE:
            return
        self._is_whole = False
        began, size = self._clock.monotonic(), 0
        try:
            async for chunk in self._chunks():
                await send_in_chunks(send, chunk)
                size += len(chunk)
                if self._clock.monotonic() - began > _PATIENCE + size / _SLOWEST:
                    raise TimeoutError
                if size > _CAP:
                    raise CutOff(f"the file is larger than {_CAP >> 30} GiB")
            self._is_whole = True
        except TimeoutError:
            log.info("a file ends early: it is sent or read too slowly", bytes=size)
        except CutOff as error:
            log.warning("a file breaks off at the vendor", bytes=size, error=str(error))
        except OSError:
            log.info("a file ends early: its client left", bytes=size)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Yield what arrives. Raises `TimeoutError` if nothing does, and `CutOff`."""
        chunks = aiter(self._source)
        while True:
            async with _timeouts.within(_READ_DEADLINE):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk
