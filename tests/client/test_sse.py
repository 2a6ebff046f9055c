"""The client's reader of Server-Sent Events: the rules of WHATWG, whatever the pieces it comes in."""

from __future__ import annotations

import itertools

import httpx
import httpx_sse
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.client.sse import MAX_EVENT, EventTooLong, Message, Parser

STREAMS: dict[bytes, list[tuple[str, str, str | None]]] = {
    b"data: one\n\n": [("", "message", "one")],
    b"id: 1\nevent: job.failed\ndata: a\ndata: b\n\n": [("1", "job.failed", "a\nb")],
    b"id: 1\r\ndata: a\r\rdata:  b\n\n": [("1", "message", "a"), ("1", "message", " b")],
    b"\xef\xbb\xbfdata:a\n\n": [("", "message", "a")],
    b": still here\n\nid: 7\n\ndata: x\n\n": [
        ("", "message", None),
        ("7", "message", None),
        ("7", "message", "x"),
    ],
    b"id: 7\ndata: x\n\nid\ndata: y\n\n": [("7", "message", "x"), ("", "message", "y")],
    b"id: 7\nid: 8\0\ndata: x\n\n": [("7", "message", "x")],
    b"data\n\ndata\ndata\n\n": [("", "message", ""), ("", "message", "\n")],
    b"event: gone\n\ndata: x\n\n": [("", "gone", None), ("", "message", "x")],
    b"data: \xff\nunknown: field\n\n": [("", "message", "�")],
    b"data: never ended\n": [],
}


def read(*pieces: bytes, max_event: int = MAX_EVENT) -> list[Message]:
    parser = Parser(max_event=max_event)
    return [message for piece in pieces for message in parser.feed(piece)]


@pytest.mark.parametrize("stream", STREAMS, ids=map(str, range(len(STREAMS))))
def test_a_stream_is_read_as_browsers_read_it(stream: bytes) -> None:
    assert read(stream) == [Message(*one) for one in STREAMS[stream]]


@given(st.sampled_from(list(STREAMS)), st.lists(st.integers(0, 60), max_size=6))
def test_it_does_not_matter_how_a_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read(*(stream[a:b] for a, b in itertools.pairwise(ends))) == read(stream)


_LINES = st.sampled_from(
    ["data: a", "data", "data:  b", "event: e", "id: 5", "id", ": c", "retry: 10", "other: x", ""]
)


@given(st.lists(_LINES, max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_another_reader_hears_the_same(lines: list[str], end: str) -> None:
    stream = "".join(line + end for line in lines).encode()
    source = httpx_sse.EventSource(
        httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    )
    theirs = [(one.id, one.event, one.data) for one in source.iter_sse() if one.data]
    assert [tuple(one) for one in read(stream) if one.data] == theirs


def test_the_servers_wish_to_be_left_alone_is_kept() -> None:
    parser = Parser()
    assert parser.retry is None
    list(parser.feed(b"retry: 2000\nretry: soon\nretry: -1\n\n"))
    assert parser.retry == 2.0


def test_a_connection_goes_on_with_the_id_of_the_one_before() -> None:
    assert [one.id for one in Parser("9").feed(b"data: x\n\n")] == ["9"]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 100, b"data: x\n" * 20])
def test_an_event_that_never_ends_is_cut_off(stream: bytes) -> None:
    with pytest.raises(EventTooLong):
        read(*(stream[n : n + 7] for n in range(0, len(stream), 7)), max_event=50)


def test_signs_of_life_are_no_long_event() -> None:
    assert read(b": still here\n" * 1000, b"data: x\n\n", max_event=50) == [
        Message("", "message", "x")
    ]
