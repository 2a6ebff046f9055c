"""Integration with the host's process: its signals, and its access log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from orchestrator.foundation.logs import masked

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: uvicorn's logger of request paths, which hold the tokens of callbacks.
_ACCESS_LOG = "uvicorn.access"


@contextlib.contextmanager
def close_on_signal(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` on the running loop when a signal ends the process, before its other handler.

    A server ends the lifespan only after its responses, and a stream would never end. A signal
    without a handler is left alone, and so are all of them outside the main thread, where Python
    has no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as hooks:
        for number in _END_SIGNALS:
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

    def handler(received: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(close)
        before(received, frame)

    signal.signal(number, handler)
    try:
        yield
    finally:
        # A handler installed after ours may still call ours, and stays in place.
        if signal.getsignal(number) is handler:
            signal.signal(number, before)


@contextlib.contextmanager
def mask_access_log() -> Iterator[None]:
    """Mask secrets in the server's access log: with the token in a push's path, anyone can push."""
    log, mask = logging.getLogger(_ACCESS_LOG), _Mask()
    log.addFilter(mask)
    try:
        yield
    finally:
        log.removeFilter(mask)


class _Mask(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(masked(a) if isinstance(a, str) else a for a in record.args)
        return True
