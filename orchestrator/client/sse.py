"""Server-Sent Events parsed as they arrive: bytes in, messages out. Buffers one event at most.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes of an event, at most: several times the largest body that the API takes.
MAX_EVENT = 8 * 2**20
_BOM = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """An event is longer than `MAX_EVENT`."""


class Message(NamedTuple):
    """One block. `id` is the last id so far. Without data it is not an event, but its id counts."""

    id: str
    type: str
    data: str | None


class Parser:
    """Parses one connection's bytes, in chunks of any size. `last_id` is where it resumed."""

    def __init__(self, last_id: str = "", max_event: int = MAX_EVENT) -> None:
        #: The reconnection time in seconds that the server asked for.
        self.retry: float | None = None
        self._max_event = max_event
        self._line: list[bytes] = []
        self._after_cr = False
        self._started = False
        self._size = 0
        self._id = last_id
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield the messages that are complete with this chunk. Raises `EventTooLong`."""
        if self._after_cr and chunk.startswith(b"\n"):
            # The second half of a CRLF whose first half has ended the line.
            chunk = chunk[1:]
            self._after_cr = False
        for part in chunk.splitlines(keepends=True):
            self._size += len(part)
            if self._size > self._max_event:
                raise EventTooLong(f"an event is longer than {self._max_event} bytes")
            self._line.append(part)
            self._after_cr = part.endswith(b"\r")
            if part.endswith((b"\r", b"\n")):
                line, self._line = b"".join(self._line).rstrip(b"\r\n"), []
                yield from self._parse(line)

    def _parse(self, line: bytes) -> Iterator[Message]:
        if not self._started:
            line, self._started = line.removeprefix(_BOM), True
        if not line:
            data = "\n".join(self._data) if self._data else None
            yield Message(self._id, self._type or "message", data)
            self._type, self._data, self._size = "", [], 0
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
                # A comment does not end an event, but comments alone never add up to a long event.
                self._size = 0
            case _:
                return
