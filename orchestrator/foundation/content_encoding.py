"""Content-Encoding of responses, decoded within bounds: a small body may decode to a huge one.

We ask for `identity`, and proxies compress all the same. One gzip, deflate or, with the extra
`server`, Brotli is decoded; several on top of each other are refused, since each multiplies what
the next one may produce.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final, Protocol

from orchestrator.foundation.errors import Unreadable

#: Bytes of one decoded piece.
PIECE: Final = 64 * 1024
#: Decoded bytes per encoded byte beyond the first `_FREE` decoded ones. JSON reaches 50; a bomb
#: of zeros 1,000.
_RATIO: Final = 200
_FREE: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_ZLIB_OR_GZIP: Final = zlib.MAX_WBITS | 32
#: Of the bytes that no deflate of JSON or HTML begins with, those that JSON begins with.
_JSON: Final = b'{[" \t\n\xef'


class _Decompressor(Protocol):
    """Decodes one body. `pieces` raises `Unreadable`; `is_complete` at the end of the body."""

    @property
    def is_complete(self) -> bool: ...
    def pieces(self, chunk: bytes) -> Iterator[bytes]: ...


class Decoder:
    """Decodes one body as it arrives. Raises `Unreadable`: unknown, nested, broken, or a bomb."""

    def __init__(self, encoding: str) -> None:
        names = [name.strip().lower() for name in encoding.split(",")]
        names = [name for name in names if name not in ("", "identity")]
        if len(names) > 1 or not _DECOMPRESSORS.keys() >= {*names}:
            known = " or ".join(_DECOMPRESSORS)
            raise Unreadable(f"the Content-Encoding is {encoding[:60]!r}, not one of {known}")
        self._name = names[0] if names else ""
        self._decompressor: _Decompressor | None = None
        self._taken = self._given = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes of a chunk, none of the pieces empty."""
        if chunk and not self._taken and self._name and not _is_plain(self._name, chunk):
            self._decompressor = _DECOMPRESSORS[self._name](chunk)
        self._taken += len(chunk)
        if self._decompressor is None:
            if chunk:
                yield chunk
            return
        for piece in self._decompressor.pieces(chunk):
            self._given += len(piece)
            if self._given > _FREE + _RATIO * self._taken:
                raise Unreadable("the body decodes to far more than was sent")
            if piece:
                yield piece

    def end(self) -> None:
        """Raise `Unreadable` if the encoded body ended early."""
        if self._decompressor is not None and not self._decompressor.is_complete:
            raise Unreadable("the body ended within its Content-Encoding")


def _is_plain(name: str, chunk: bytes) -> bool:
    """True if a body is not encoded: a proxy or framework set the header and compressed nothing.

    RFC 1952 section 2.3.1, RFC 1950 section 2.2. Brotli has no signature, but no body that is not
    empty begins with a brace (RFC 7932 section 9.2: it would be the last block, and empty).
    """
    if name in ("gzip", "x-gzip"):
        return not _GZIP.startswith(chunk[:2])
    if name == "br":
        return chunk.lstrip(b" \t\r\n").startswith(b"{")
    return chunk[:1] in _JSON


class _Zlib:
    """Gzip or deflate. Some send the latter raw (https://zlib.net/zlib_faq.html#faq39)."""

    def __init__(self, start: bytes) -> None:
        is_raw = start[:1] != _GZIP[:1] and start[0] & 0x0F != zlib.DEFLATED
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _ZLIB_OR_GZIP)

    @property
    def is_complete(self) -> bool:
        return self._zlib.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        piece = b""
        # After a full piece, more may follow although all input was taken.
        while (chunk or len(piece) == PIECE) and not self._zlib.eof:
            try:
                piece = self._zlib.decompress(chunk, PIECE)
            except zlib.error:
                raise Unreadable(_BROKEN) from None
            chunk = self._zlib.unconsumed_tail
            yield piece
        if chunk or self._zlib.unused_data:
            raise Unreadable(_MORE)


class _Brotli:
    """RFC 7932."""

    def __init__(self, _start: bytes) -> None:
        # A plain install has no Brotli.
        import brotli

        self._brotli = brotli.Decompressor()
        self._error: type[Exception] = brotli.error

    @property
    def is_complete(self) -> bool:
        return bool(self._brotli.is_finished())

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        if self.is_complete and chunk:
            raise Unreadable(_MORE)
        while True:
            try:
                piece = self._brotli.process(chunk, output_buffer_limit=PIECE)
            except self._error:
                raise Unreadable(_BROKEN) from None
            if not piece and self._brotli.can_accept_more_data():
                return
            chunk = b""
            yield piece


_BROKEN: Final = "the body is not what its Content-Encoding says"
_MORE: Final = "the body goes on after the end of its Content-Encoding"
_DECOMPRESSORS: Final[dict[str, Any]] = {"gzip": _Zlib, "x-gzip": _Zlib, "deflate": _Zlib}
if find_spec("brotli") is not None:
    _DECOMPRESSORS["br"] = _Brotli


def decode(encoding: str, body: bytes, cap: int) -> bytes:
    """Return a body decoded, as far as it arrived. Raises `Unreadable`, also beyond `cap` bytes."""
    decoder, decoded = Decoder(encoding), bytearray()
    for piece in decoder.feed(body):
        decoded += piece
        if len(decoded) > cap:
            raise Unreadable(f"the body decodes to more than {cap} bytes")
    return bytes(decoded)
