"""Content-Encoding of responses, decoded within bounds: a small body may decode to a huge one.

We ask for `identity`, and proxies compress all the same. One gzip or deflate is decoded; several on
top of each other are refused, since each multiplies what the next one may produce.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from orchestrator.foundation.errors import Unreadable

#: Bytes of one decoded piece.
PIECE: Final = 64 * 1024
#: Decoded bytes per encoded byte beyond the first `_FREE` decoded ones. JSON reaches 50; a bomb
#: of zeros 1,000.
_RATIO: Final = 200
_FREE: Final = 1 << 20
_WINDOWS: Final = {
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}
_GZIP: Final = b"\x1f\x8b"


class Decoder:
    """Decodes one body as it arrives. Raises `Unreadable`: unknown, nested, broken, or a bomb."""

    def __init__(self, encoding: str) -> None:
        names = [name.strip().lower() for name in encoding.split(",")]
        names = [name for name in names if name not in ("", "identity")]
        if len(names) > 1 or not _WINDOWS.keys() >= {*names}:
            raise Unreadable(f"the Content-Encoding is {encoding[:60]!r}, not one gzip or deflate")
        self._zlib = zlib.decompressobj(_WINDOWS[names[0]]) if names else None
        self._is_gzip = names != ["deflate"]
        self._taken = self._given = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes of a chunk, none of the pieces empty."""
        if chunk and not self._taken and not self._begins(chunk):
            # A proxy or framework that sets the header and compresses nothing.
            self._zlib = None
        if self._zlib is None:
            if chunk:
                yield chunk
            return
        self._taken += len(chunk)
        while chunk and not self._zlib.eof:
            try:
                piece = self._zlib.decompress(chunk, PIECE)
            except zlib.error:
                raise Unreadable("the body is not what its Content-Encoding says") from None
            chunk = self._zlib.unconsumed_tail
            self._given += len(piece)
            if self._given > _FREE + _RATIO * self._taken:
                raise Unreadable("the body decodes to far more than was sent")
            if piece:
                yield piece
        if chunk or self._zlib.unused_data:
            raise Unreadable("the body goes on after the end of its Content-Encoding")

    def _begins(self, chunk: bytes) -> bool:
        """True if a body may begin so (RFC 1952 section 2.3.1, RFC 1950 section 2.2)."""
        return _GZIP.startswith(chunk[:2]) if self._is_gzip else chunk[0] & 0x0F == zlib.DEFLATED

    def end(self) -> None:
        """Raise `Unreadable` if the encoded body ended early."""
        if self._zlib is not None and self._taken and not self._zlib.eof:
            raise Unreadable("the body ended within its Content-Encoding")


def decode(encoding: str, body: bytes, cap: int) -> bytes:
    """Return a body decoded, as far as it arrived. Raises `Unreadable`, also beyond `cap` bytes."""
    decoder, decoded = Decoder(encoding), bytearray()
    for piece in decoder.feed(body):
        decoded += piece
        if len(decoded) > cap:
            raise Unreadable(f"the body decodes to more than {cap} bytes")
    return bytes(decoded)
