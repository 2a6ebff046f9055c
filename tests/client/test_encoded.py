"""Compressed responses: one gzip or deflate is decoded, within bounds, wherever a body is read."""

from __future__ import annotations

import gzip
import json
import resource
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache

import httpx
import pytest

from orchestrator.client import ApiError, AsyncClient, Client, NotOurs
from tests.harness.scripted_client import job_document

SERVER = "http://orchestrator.invalid"


@cache
def bomb() -> bytes:
    """Return 256 MiB of zeros as gzip, made in pieces: the memory of this process is measured."""
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(bytes(1 << 20)) for _ in range(256)]
    return b"".join([*pieces, packer.flush()])


@cache
def nested() -> bytes:
    return gzip.compress(bomb())


def broken() -> bytes:
    return b"x"


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body as it comes from a socket."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), 65_536):
            yield self._body[start : start + 65_536]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def answering(status: int, body: bytes, **headers: str) -> httpx.MockTransport:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.MockTransport(lambda _: httpx.Response(status, headers=named, stream=Body(body)))


async def both(transport: httpx.MockTransport, *, stream: bool = False) -> list[object]:
    """Return what the blocking and the asynchronous client make of an answer."""
    ends: list[object] = []
    with httpx.Client(transport=transport) as http, Client(SERVER, retries=0, http=http) as client:
        try:
            ends.append(next(client.events.stream()) if stream else client.jobs.get("job_1"))
        except (ApiError, NotOurs) as error:
            ends.append(error)
    async with (
        httpx.AsyncClient(transport=transport) as http_async,
        AsyncClient(SERVER, retries=0, http=http_async) as client_async,
    ):
        try:
            if stream:
                ends.append(await anext(client_async.events.stream()))
            else:
                ends.append(await client_async.jobs.get("job_1"))
        except (ApiError, NotOurs) as error:
            ends.append(error)
    return ends


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_body_that_a_proxy_compressed_is_read(encoding: str, encode: object) -> None:
    assert callable(encode)
    body = encode(json.dumps(job_document(id="job_1")).encode())
    for found in await both(answering(200, body, content_encoding=encoding)):
        assert getattr(found, "id", None) == "job_1"


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    ("make", "encoding"),
    [(bomb, "gzip"), (nested, "gzip, gzip"), (nested, "gzip"), (broken, "br"), (broken, "gzip")],
    ids=["bomb", "nested", "hidden", "unknown", "broken"],
)
async def test_a_body_that_decodes_to_far_more_or_not_at_all_is_an_error(
    status: int, make: Callable[[], bytes], encoding: str
) -> None:
    body = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for end in await both(answering(status, body, content_encoding=encoding)):
        assert isinstance(end, NotOurs)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10


@pytest.mark.parametrize(
    ("make", "encoding"), [(bomb, "gzip"), (nested, "gzip, gzip")], ids=["bomb", "nested"]
)
async def test_an_event_stream_is_decoded_within_the_same_bounds(
    make: Callable[[], bytes], encoding: str
) -> None:
    answer = answering(200, make(), content_encoding=encoding, content_type="text/event-stream")
    for end in await both(answer, stream=True):
        assert isinstance(end, NotOurs)
