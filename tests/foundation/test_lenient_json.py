"""JSON as vendors write it: what is read beyond the standard, and what is not."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation.errors import NotJson
from orchestrator.foundation.lenient_json import as_utf8, read

TASK = {"id": "T1", "words": '任务 \\ " é'}
PLAIN = json.dumps(TASK, ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"id": "T1", "cost": NaN, "a": [Infinity, -Infinity]}',
         {"id": "T1", "cost": None, "a": [None, None]}),
        ('{"id": "T1", "cost": -nan, "b": inf}', {"id": "T1", "cost": None, "b": None}),
        ('{"id": "T1", "a": [1, 2,], }', {"id": "T1", "a": [1, 2]}),
        ('{"id": "T1", "a": None, "b": True, "c": undefined}',
         {"id": "T1", "a": None, "b": True, "c": None}),
        ('{"id": "NaN,}", "a": "x\\", None ]", "b": NaN,}',
         {"id": "NaN,}", "a": 'x", None ]', "b": None}),
        ('{"id": "line\nline\tend"}', {"id": "line\nline\tend"}),
        ('{"id": "T1"}\n<br />Warning: Undefined index {', {"id": "T1"}),
        ('{"id": "T1"}{"id": "T2"}', {"id": "T1"}),
        (json.dumps(PLAIN), TASK),
        (json.dumps('[{"id": NaN}]'), [{"id": None}]),
        ('"text"', "text"),
        ('{"id": 12345678901234567890}', {"id": 12345678901234567890}),
        ('{"id": "T1", "n": %s}' % ("9" * 5000), {"id": "T1", "n": float("inf")}),
    ],
)  # fmt: skip
def test_almost_json_is_read(text: str, value: Any) -> None:
    assert read(text.encode()) == value


@pytest.mark.parametrize("charset", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_json_is_read_in_every_encoding_of_unicode(charset: str) -> None:
    assert read(PLAIN.encode(charset)) == TASK
    assert read(as_utf8(PLAIN.encode(charset))) == TASK
    assert "任务".encode() in as_utf8(PLAIN.encode(charset))


def test_a_declared_charset_is_used_where_the_body_is_not_utf_8() -> None:
    assert read(PLAIN.encode("gb18030"), "GBK") == TASK
    assert read(PLAIN.encode(), "gbk") == TASK
    assert read('{"id": "T1", "words": "é"}'.encode("latin-1"))["id"] == "T1"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{a: 1}", "404 page not found", "NaN", "true,", "<html>{}</html>", '"{', '"{"',
        '{"id": "T', '{"id": "T1"', "[" * 100_000, '"' + "[" * 100_000 + '"', "{'a': 1}",
    ],
)  # fmt: skip
def test_what_is_not_json_stays_unread(text: str) -> None:
    with pytest.raises(NotJson):
        read(text.encode())


@given(body=st.binary() | st.text(alphabet='{}[]",\\:NaninfTrue01 ').map(str.encode))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(NotJson):
        read(body)
    as_utf8(body)


@pytest.mark.parametrize("part", ['\\"', '"', ",  ", "[", '{"":', "nan ", '"\\'])
def test_the_time_grows_with_the_size_alone(part: str) -> None:
    body = b'{"id": ' + part.encode() * (1 << 16)
    began = time.perf_counter()
    with pytest.raises(NotJson):
        read(body)
    assert time.perf_counter() - began < 5
