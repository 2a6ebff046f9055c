"""Answers of vendors: decoded, shortened, and bounded whatever arrives."""

from __future__ import annotations

import base64
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.egress import answer_body
from orchestrator.egress.answer_body import KEPT_CAP, READ_CAP, STRING_CAP, AnswerBody
from orchestrator.foundation.errors import CutOff
from tests.harness.raw_http import open_client, post, responding, serving

SMALL = b'{"id": "T1"}'


@cache
def echo() -> bytes:
    """Return an answer with an image of 10 MB in Base64, by an encoder that escapes slashes."""
    image = base64.b64encode(random.Random(1).randbytes(10_000_000)).replace(b"/", rb"\/")
    return b'{"input": {"image": "%b", "size": 2}, "id": "T1", "status": "queued"}' % image


def chunks(body: bytes, size: int = 64 << 10) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def read(body: bytes, encoding: str = "", size: int = 64 << 10) -> bytes:
    answer = AnswerBody("acme", encoding)
    for chunk in chunks(body, size):
        answer.add(chunk)
    answer.end()
    return answer.content


def test_an_echoed_image_costs_no_memory_and_loses_no_field() -> None:
    body = echo()
    tracemalloc.start()
    try:
        value = json.loads(read(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (value["id"], value["status"], value["input"]["size"]) == ("T1", "queued", 2)
    assert 0 < len(value["input"]["image"]) <= STRING_CAP
    assert peak < 2 << 20


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", partial(gzip.compress, compresslevel=1)),
        ("", partial(gzip.compress, compresslevel=1)),
        ("gzip, gzip", partial(gzip.compress, compresslevel=1)),
        ("deflate", partial(zlib.compress, level=1)),
        ("br", partial(brotli.compress, quality=1)),
        ("utf-8", bytes),
        ("gzip", bytes),
    ],
    ids=["gzip", "no header", "a wrong header", "deflate", "br", "a charset", "not encoded"],
)
def test_an_answer_is_decoded_although_it_was_to_be_plain(
    encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    assert json.loads(read(encode(echo()), encoding))["id"] == "T1"


@pytest.mark.parametrize("text", ["a", "é", "任", "😀", '"', "\\", "\\u00e9", "\n"])
@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_string_is_cut_between_characters(text: str, shift: int, ascii_only: bool) -> None:
    long = "-" * shift + text * STRING_CAP
    body = json.dumps([long, {"id": long, "n": 1}], ensure_ascii=ascii_only).encode()
    for size in (1000, 1 << 20):
        first, second = json.loads(read(body, size=size))
        # Half of a surrogate pair is no error: no text that is stored holds one.
        assert long.startswith(first.rstrip("\ud83d"))
        assert second == {"id": first, "n": 1}


@settings(max_examples=50)
@given(
    value=st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
            st.text(), inner
        )
    ),
    size=st.integers(1, 50),
)  # fmt: skip
def test_short_strings_are_kept_as_they_are(value: object, size: int) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_body, "STRING_CAP", len(text))
        # Before the text there is as much as is kept without a look at it.
        body = b" " * len(text) + text
        assert read(body, size=size) == body


@pytest.mark.parametrize(
    ("body", "read_cap"),
    [
        (b"[" + b"1," * KEPT_CAP, READ_CAP),
        (b'"' + b"a" * (2 << 20), 1 << 20),
        (gzip.compress(b'{"id": "' + b"a" * (2 << 20)), 1 << 20),
    ],
    ids=["too much to keep", "too much to read", "too much to decode"],
)
def test_an_answer_without_end_is_given_up(
    body: bytes, read_cap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_body, "READ_CAP", read_cap)
    with pytest.raises(CutOff) as failure:
        read(body)
    assert failure.value.kind == "too_large"


def test_what_arrived_of_a_broken_encoding_is_kept() -> None:
    answer = AnswerBody("acme", "gzip")
    with pytest.raises(CutOff) as failure:
        answer.add(gzip.compress(SMALL) + b"<!-- cached -->")
    assert (failure.value.kind, answer.content) == ("bad_encoding", SMALL)
    answer = AnswerBody("acme", "gzip")
    answer.add(gzip.compress(SMALL)[:-8])
    with pytest.raises(CutOff):
        answer.end()
    assert answer.content == SMALL


async def test_the_client_returns_an_answer_decoded() -> None:
    body = gzip.compress(SMALL)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-A: %b\r\nContent-Length: %d\r\n\r\n"
    async with (
        serving(responding(head % (b"a" * 9_000, len(body)) + body)) as server,
        open_client() as client,
    ):
        answer = await client.send(post(server.url()), deadline=5, body="answer")
    assert (answer.content, answer.json()) == (SMALL, {"id": "T1"})
    assert "content-encoding" not in answer.headers
    assert "partial" not in answer.extensions


async def test_an_answer_that_breaks_off_is_returned_as_far_as_it_came() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
    async with serving(responding(head + SMALL, close=True)) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5, body="answer")
    assert (answer.content, answer.extensions["partial"]) == (SMALL, "disconnected")


async def test_a_large_answer_is_read_whole() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(echo())
    async with serving(responding(head, echo())) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=30, body="answer")
    assert (answer.json()["id"], len(answer.content) < KEPT_CAP) == ("T1", True)
