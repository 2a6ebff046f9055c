"""Server-Sent Events, read as they arrive: bytes in, messages out, and never more in memory than one event may be long.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes of one event: some times the largest body that the API takes.
CAP = 8 * 2**20
_BOM = b"\xef\xbb\xbf"


class TooLong(ValueError):
    """An event is longer than any of ours."""


class Message(NamedTuple):
    """One block. `id` is the last one said so far. Without data it is no event, but the id holds."""

    id: str
    type: str
    data: str | None


class Parser:
    """Reads one connection's bytes, however they are cut. `last` is the id that the one before had come to."""

    def __init__(self, last: str = "", cap: int = CAP) -> None:
        self.retry: float | None = None
        self._cap = cap
        self._line: list[bytes] = []
        self._after_cr = False
        self._begun = False
        self._size = 0
        self._id = last
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield the messages that end in a piece of the stream. Raises `TooLong`."""
        if self._after_cr and chunk.startswith(b"\n"):
            # The second half of a CRLF whose first half has ended the line.
            chunk = chunk[1:]
            self._after_cr = False
        for part in chunk.splitlines(keepends=True):
            self._size += len(part)
            if self._size > self._cap:
                raise TooLong(f"an event is longer than {self._cap} bytes")
            self._line.append(part)
            self._after_cr = part.endswith(b"\r")
            if part.endswith((b"\r", b"\n")):
                line, self._line = b"".join(self._line).rstrip(b"\r\n"), []
                yield from self._read(line)

    def _read(self, line: bytes) -> Iterator[Message]:
        if not self._begun:
            line, self._begun = line.removeprefix(_BOM), True
        if not line:
            yield self._dispatched()
            return
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._type = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if re.fullmatch("[0-9]{1,9}", value):
                self.retry = int(value) / 1000
            case "" if not self._data:
                # A comment ends nothing, but a stream of comments is no long event either.
                self._size = 0
            case _:
                return

    def _dispatched(self) -> Message:
        message = Message(
            self._id, self._type or "message", "\n".join(self._data) if self._data else None
        )
        self._type, self._data, self._size = "", [], 0
        return message
