"""Log lines on a thread of their own: a log without a reader must not stop the service.

A pipe whose reader stands still blocks a write for ever, and a full disk refuses it. So lines are
queued, up to a number of bytes; what does not fit, or cannot be written, is dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable

_MOST = 4 << 20
#: Seconds that the last lines may take at the end of the process.
_FLUSH = 1.0
_STDERR = 2
log = logging.getLogger(__name__)


class LineWriter:
    """Writes lines to a file descriptor. `write` never waits and never raises.

    `dropped` is called with the number of lines that were lost.
    """

    def __init__(self, descriptor: int = _STDERR, most: int = _MOST) -> None:
        self.dropped: Callable[[int], None] = lambda _: None
        self._descriptor = descriptor
        self._most = most
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        # Reentrant: a signal handler may log in the middle of `write`.
        self._changed = threading.Condition(threading.RLock())
        threading.Thread(target=self._run, name="log writer", daemon=True).start()

    def write(self, line: str) -> None:
        """Queue a line, or drop it if too many bytes wait."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            full = self._size + len(data) > self._most
            if full:
                self._lost += 1
            else:
                self._lines.append(data)
                self._size += len(data)
                self._changed.notify_all()
        if full:
            self.dropped(1)

    def flush(self, seconds: float = _FLUSH) -> None:
        """Wait until all lines are written, for `seconds` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            written = self._put(line)
            with self._changed:
                self._size -= len(line)
                lost, self._lost = (self._lost, 0) if written else (0, self._lost + 1)
                self._changed.notify_all()
            if not written:
                self.dropped(1)
            elif lost:
                log.warning("%d log lines were dropped", lost)

    def _put(self, line: bytes) -> bool:
        """Write a line; False if that is impossible."""
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:
                # Another process has made the pipe non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


class QueuedHandler(logging.Handler):
    """A logging handler that renders on the caller's thread, and writes on another one."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. A record that cannot be rendered is lost, not a fault of its caller."""
        with contextlib.suppress(Exception):
            self._writer.write(self.format(record))

    def flush(self) -> None:
        """Wait for the lines, but not long: the process may be ending."""
        self._writer.flush()
