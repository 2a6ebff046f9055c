"""The client's parser of Server-Sent Events: the rules of WHATWG, for any chunk boundaries."""

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
    b": heartbeat\n\nid: 7\n\ndata: x\n\n": [
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


def read(*chunks: bytes, max_event: int = MAX_EVENT) -> list[Message]:
    parser = Parser(max_event=max_event)
    return [message for chunk in chunks for message in parser.feed(chunk)]


@pytest.mark.parametrize("stream", STREAMS, ids=map(str, range(len(STREAMS))))
def test_a_stream_is_parsed_by_the_rules_of_browsers(stream: bytes) -> None:
    assert read(stream) == [Message(*fields) for fields in STREAMS[stream]]


@given(st.sampled_from(list(STREAMS)), st.lists(st.integers(0, 60), max_size=6))
def test_chunk_boundaries_do_not_matter(stream: bytes, cuts: list[int]) -> None:
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read(*(stream[a:b] for a, b in itertools.pairwise(ends))) == read(stream)


_LINES = st.sampled_from(
    ["data: a", "data", "data:  b", "event: e", "id: 5", "id", ": c", "retry: 10", "other: x", ""]
)


@given(st.lists(_LINES, max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_httpx_sse_parses_the_same_messages(lines: list[str], end: str) -> None:
    stream = "".join(line + end for line in lines).encode()
    source = httpx_sse.EventSource(
        httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    )
    expected = [(sse.id, sse.event, sse.data) for sse in source.iter_sse() if sse.data]
    assert [tuple(message) for message in read(stream) if message.data] == expected


def test_the_reconnection_time_of_the_server_is_kept() -> None:
    parser = Parser()
    assert parser.retry is None
    list(parser.feed(b"retry: 2000\nretry: soon\nretry: -1\n\n"))
    assert parser.retry == 2.0


def test_a_connection_starts_with_the_last_id_of_the_connection_before() -> None:
    assert [message.id for message in Parser("9").feed(b"data: x\n\n")] == ["9"]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 100, b"data: x\n" * 20])
def test_an_endless_event_is_an_error(stream: bytes) -> None:
    with pytest.raises(EventTooLong):
        read(*(stream[n : n + 7] for n in range(0, len(stream), 7)), max_event=50)


def test_heartbeat_comments_do_not_add_up_to_a_long_event() -> None:
    assert read(b": heartbeat\n" * 1000, b"data: x\n\n", max_event=50) == [
        Message("", "message", "x")
    ]
