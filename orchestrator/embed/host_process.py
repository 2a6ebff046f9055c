"""What a guest does in a process that is not its own: it leaves when told to, and keeps its secrets to itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from orchestrator.foundation.logs import masked

_ENDINGS = (signal.SIGTERM, signal.SIGINT)
#: Where uvicorn writes the path of every request, tokens of callbacks included.
_ACCESS = "uvicorn.access"


@contextlib.contextmanager
def close_on_signal(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` on the running loop when a signal asks the process to end, before whoever handles that signal.

    A server waits for its answers, and only then ends the lifespan; a stream would never end. A signal that nobody
    handles is left alone, and so are all of them outside of the main thread, where Python has no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as hooks:
        for number in _ENDINGS:
            hooks.enter_context(_hooked(number, close, asyncio.get_running_loop()))
        yield


@contextlib.contextmanager
def _hooked(
    number: signal.Signals, close: Callable[[], None], loop: asyncio.AbstractEventLoop
) -> Iterator[None]:
    before = signal.getsignal(number)
    if not callable(before) or before is signal.default_int_handler:
        yield
        return

    def heard(given: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(close)
        before(given, frame)

    signal.signal(number, heard)
    try:
        yield
    finally:
        # Whoever came after us calls us still, and is left in place.
        if signal.getsignal(number) is heard:
            signal.signal(number, before)


@contextlib.contextmanager
def mask_access_log() -> Iterator[None]:
    """Mask secrets in the server's access log: the path of a push holds its token, and so whoever reads it can push."""
    log, mask = logging.getLogger(_ACCESS), _Mask()
    log.addFilter(mask)
    try:
        yield
    finally:
        log.removeFilter(mask)


class _Mask(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(masked(one) if isinstance(one, str) else one for one in record.args)
        return True
