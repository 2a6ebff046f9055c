"""The body of a vendor's answer: decoded and shortened while it arrives.

An answer may echo the images of its request, tens of MB in Base64. No field that we read is so
long, so what is kept of an answer is small, whatever its size.
"""

from __future__ import annotations

import re
from typing import Final

from orchestrator.foundation.content_encoding import Decoder
from orchestrator.foundation.errors import CutOff, Unreadable

#: Bytes of an answer that are read, encoded and decoded: more than four images of 10 MB in Base64.
READ_CAP: Final = 64 << 20
#: Bytes that are kept of an answer.
KEPT_CAP: Final = 1 << 20
#: Bytes that are kept of one string. None that we read is as long, even with all of it escaped.
STRING_CAP: Final = 64 << 10
_QUOTE: Final = ord('"')
_GZIP: Final = b"\x1f\x8b"
#: The inside of a string up to its end, or to an escape that goes on in the next chunk.
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
#: As many whole characters as a string begins with: no half of an escape, nor of a UTF-8 sequence.
_CHARACTERS: Final = re.compile(
    rb"(?:[\x00-\x5b\x5d-\x7f]++|\\u[0-9a-fA-F]{4}|\\[^u]"
    rb"|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})*+",
    re.DOTALL,
)


class AnswerBody:
    """Collects a body. `add` and `end` raise `CutOff`; `content` is what has been kept by then."""

    def __init__(self, host: str, encoding: str) -> None:
        self._host = host
        self._encoding = encoding
        self._decoder: Decoder | None = None
        self._read = self._decoded = 0
        self._kept = bytearray()
        self._shortener: _Shortener | None = None

    @property
    def content(self) -> bytes:
        """The decoded body, up to `KEPT_CAP` bytes, without the rest of long strings."""
        return bytes(self._kept[:KEPT_CAP])

    def add(self, chunk: bytes) -> None:
        """Take what has arrived."""
        if self._decoder is None:
            self._decoder = _decoder(self._encoding, chunk)
        self._read += len(chunk)
        try:
            for piece in self._decoder.feed(chunk):
                self._decoded += len(piece)
                self._keep(piece)
                self._check()
        except Unreadable as error:
            raise CutOff(f"{self._host}: {error}", kind="bad_encoding") from error

    def end(self) -> None:
        """Take the end of the body."""
        try:
            if self._decoder is not None:
                self._decoder.end()
        except Unreadable as error:
            raise CutOff(f"{self._host}: {error}", kind="bad_encoding") from error

    def _keep(self, piece: bytes) -> None:
        if self._shortener is not None:
            self._shortener.add(piece)
        elif len(self._kept) + len(piece) <= STRING_CAP:
            self._kept += piece
        else:
            # No string was too long so far, so nothing had to be looked at.
            piece = bytes(self._kept) + piece
            self._kept.clear()
            self._shortener = _Shortener(self._kept)
            self._shortener.add(piece)

    def _check(self) -> None:
        for size, cap in (
            (self._read, READ_CAP),
            (self._decoded, READ_CAP),
            (len(self._kept), KEPT_CAP),
        ):
            if size > cap:
                raise CutOff(f"{self._host}: more than {cap} bytes", kind="too_large")


def _decoder(encoding: str, start: bytes) -> Decoder:
    """Return the decoder of a body. Its first bytes go before a header that names no encoding."""
    if start.startswith(_GZIP):
        return Decoder("gzip")
    try:
        return Decoder(encoding)
    except Unreadable:
        # Some name a charset or a media type.
        return Decoder("")


class _Shortener:
    """Copies JSON in UTF-8, but of a string only the first `STRING_CAP` bytes."""

    def __init__(self, kept: bytearray) -> None:
        self._kept = kept
        #: Where the string that the copy ends in begins; -1 between strings.
        self._start = -1
        self._is_cut = False
        self._escape = b""

    def add(self, piece: bytes) -> None:
        piece, self._escape, at = self._escape + piece, b"", 0
        while at < len(piece):
            if self._start < 0:
                at = self._skip(piece, at)
                continue
            found = _INSIDE.match(piece, at)
            assert found is not None
            if not self._is_cut:
                self._kept += found[0]
                self._cut()
            at = found.end()
            if at < len(piece) and piece[at] != _QUOTE:
                self._escape = piece[at:]
                return
            if at < len(piece):
                self._kept += b'"'
                self._start, at = -1, at + 1

    def _skip(self, piece: bytes, at: int) -> int:
        """Copy up to the first byte of the next string. Return where that is."""
        quote = piece.find(_QUOTE, at)
        end = quote + 1 if quote >= 0 else len(piece)
        self._kept += piece[at:end]
        if quote >= 0:
            self._start, self._is_cut = len(self._kept), False
        return end

    def _cut(self) -> None:
        if len(self._kept) - self._start > STRING_CAP:
            found = _CHARACTERS.match(self._kept, self._start, self._start + STRING_CAP)
            assert found is not None
            del self._kept[found.end() :]
            self._is_cut = True
