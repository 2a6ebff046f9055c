"""Content-Encoding: one gzip, deflate or Brotli, within bounds."""

from __future__ import annotations

import base64
import gzip
import random
import zlib
from collections.abc import Callable
from functools import partial

import brotli
import pytest

from orchestrator.foundation.content_encoding import PIECE, Decoder, decode
from orchestrator.foundation.errors import Unreadable

TEXT = b'{"a": 1}' * 1000
CAP = 32 << 20


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("X-GZIP", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, wbits=-15)),
        ("deflate", zlib.compress(TEXT[:8] * 1000, 0, -15)),
        ("br", brotli.compress(TEXT)),
        ("identity, gzip", gzip.compress(TEXT)),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "deflate", "raw", "stored", "br", "with identity"],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_body_is_decoded_in_chunks_of_any_size(encoding: str, body: bytes, step: int) -> None:
    decoder = Decoder(encoding)
    pieces = [
        piece
        for start in range(0, len(body), step)
        for piece in decoder.feed(body[start : start + step])
    ]
    decoder.end()
    assert b"".join(pieces) == TEXT
    assert all(pieces)


@pytest.mark.parametrize("beyond", range(6))
def test_a_body_is_whole_whose_last_bytes_follow_the_last_of_its_input(beyond: int) -> None:
    """A full piece may leave decoded bytes behind, without any input that would bring them."""
    text = (TEXT * 9)[: PIECE + beyond]
    decoder = Decoder("deflate")
    assert b"".join(decoder.feed(zlib.compress(text, wbits=-15))) == text
    decoder.end()


@pytest.mark.parametrize(
    "encoding", ["gzip, gzip", "gzip,deflate", "br, gzip", "zstd", "x", "gzip;q=1"]
)
def test_nested_and_unknown_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(Unreadable, match="Content-Encoding"):
        Decoder(encoding)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT)[:5] + b"x" * 99),
        ("gzip", gzip.compress(TEXT) + b"more"),
        ("br", brotli.compress(TEXT)[:5] + b"x" * 99),
        ("br", brotli.compress(TEXT) + b"more"),
    ],
    ids=["garbage within", "more behind", "br: garbage within", "br: more behind"],
)
def test_a_broken_body_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(encoding, body, CAP)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(TEXT)[:-9]), ("br", brotli.compress(TEXT)[:-1])],
    ids=["gzip", "br"],
)
def test_a_body_that_ends_early_is_found_at_its_end(encoding: str, body: bytes) -> None:
    decoder = Decoder(encoding)
    assert TEXT.startswith(b"".join(decoder.feed(body)))
    with pytest.raises(Unreadable, match="ended"):
        decoder.end()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("br", partial(brotli.compress, quality=1))],
    ids=["gzip", "br"],
)
def test_a_bomb_is_refused_and_no_piece_of_it_is_large(
    encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    bomb, sizes = encode(bytes(64 << 20)), list[int]()
    with pytest.raises(Unreadable, match="far more"):
        sizes.extend(map(len, Decoder(encoding).feed(bomb)))
    # Brotli's buffer grows in steps.
    assert max(sizes) <= 2 * PIECE
    assert sum(sizes) < 32 << 20


def test_a_body_is_decoded_up_to_the_cap() -> None:
    assert decode("gzip", gzip.compress(TEXT), len(TEXT)) == TEXT
    with pytest.raises(Unreadable, match="more than"):
        decode("gzip", gzip.compress(TEXT), len(TEXT) - 1)


def test_brotli_that_begins_as_a_list_is_decoded() -> None:
    body = base64.b64encode(random.Random(1).randbytes(70_000))
    encoded = brotli.compress(body, quality=4)
    assert encoded.startswith(b"[")
    assert decode("br", encoded, CAP) == body


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br"])
@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_body_that_is_not_encoded_although_its_header_says_so_is_read(
    encoding: str, size: int
) -> None:
    body, decoder, read = b'{"task_id": "1"}', Decoder(encoding), b""
    for start in range(0, len(body), size):
        read += b"".join(decoder.feed(body[start : start + size]))
    decoder.end()
    assert read == body
