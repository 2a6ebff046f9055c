"""Several processes behind one socket. They share only PostgreSQL, so a dead one is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

import structlog

from orchestrator.cli.failure import Failure
from orchestrator.foundation.settings import Settings

log = structlog.get_logger()

#: What is logged at SIGHUP.
HANGUP_IGNORED = "SIGHUP is ignored: settings are read at start, so restart the service"
_STOPS = (signal.SIGTERM, signal.SIGINT)
#: A new process must not die of these before it handles them.
_BLOCKED = (signal.SIGINT, signal.SIGHUP)
#: Give up after so many processes that ended before they had started, if none ever started.
_HOPELESS = 3
#: Seconds between SIGTERMs: a process that is changing its handlers misses one.
_AGAIN = 1.0

Child = Callable[[Settings, socket.socket], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals of a supervisor, in seconds."""

    #: A process that lives shorter has not started.
    start: float = 5.0
    #: From the end of such a process to the next start.
    pause: float = 1.0
    #: From SIGTERM until processes are killed. Each drains in less.
    end: float = 40.0


class Supervisor:
    """Keeps `count` processes running `child` until a signal. They do not outlive it.

    `ended` is called with the pid of every process that has ended.
    """

    def __init__(
        self,
        count: int,
        child: Child,
        settings: Settings,
        listening: socket.socket,
        timing: Timing | None = None,
        ended: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._count = count
        self._ended = ended
        self._timing = timing or Timing()
        self._args = (child, settings, listening, self._timing.end)
        self._spawn = multiprocessing.get_context("spawn")
        self._running: dict[SpawnProcess, float] = {}
        self._signals: list[int] = []
        self._failed = 0
        self._started = False
        self._resume = 0.0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; SIGINT after either kills the processes.

        Raises `Failure` if no process ever started, `KeyboardInterrupt` after SIGINT, when all
        processes have ended.
        """
        # Otherwise the first spawn starts it, and it unblocks SIGINT meanwhile.
        resource_tracker.ensure_running()
        with _signals() as received:
            try:
                self._keep(received)
            finally:
                self._stop(received)
        if signal.SIGINT in self._signals:
            raise KeyboardInterrupt

    def _keep(self, received: socket.socket) -> None:
        while not self._signals:
            while (
                len(self._running) < self._count
                and time.monotonic() >= self._resume
                and not self._is_hopeless
            ):
                self._start()
            # A running process may still show that the service can start.
            if self._is_hopeless and not self._running:
                raise Failure("the service did not start", hint="the log above says why")
            self._wait(received, self._timing.pause)
            self._reap()

    @property
    def _is_hopeless(self) -> bool:
        return not self._started and self._failed >= _HOPELESS

    def _start(self) -> None:
        process = self._spawn.Process(target=_child, args=self._args)
        try:
            with _blocked():
                process.start()
        except OSError as error:
            # No memory or no file descriptor: the running processes go on.
            log.warning("a process could not be started", error=str(error))
            self._fail()
        else:
            self._running[process] = time.monotonic()

    def _fail(self) -> None:
        self._failed += 1
        self._resume = time.monotonic() + self._timing.pause

    def _wait(self, received: socket.socket, seconds: float) -> None:
        """Wait until a process ends, a signal comes, or the time is up."""
        wait([received, *(process.sentinel for process in self._running)], timeout=seconds)
        with contextlib.suppress(BlockingIOError):
            numbers = received.recv(64)
            self._signals += [number for number in numbers if number in _STOPS]
            if signal.SIGHUP in numbers:
                log.warning(HANGUP_IGNORED)

    def _reap(self) -> None:
        """Forget processes that have ended, and note whether one ever started."""
        for process, since in list(self._running.items()):
            lived = time.monotonic() - since
            started = lived >= self._timing.start
            self._started = self._started or started
            if process.is_alive():
                continue
            del self._running[process]
            self._ended(process.pid or 0)
            if not self._signals:
                log.warning(
                    "a process ended",
                    pid=process.pid,
                    exit_code=process.exitcode,
                    seconds=round(lived, 1),
                )
                if not started:
                    self._fail()

    def _stop(self, received: socket.socket) -> None:
        until = time.monotonic() + self._timing.end
        while self._running:
            kill = time.monotonic() >= until or signal.SIGINT in self._signals[1:]
            for process in self._running:
                if kill:
                    log.warning("a process is killed", pid=process.pid)
                    process.kill()
                else:
                    process.terminate()
            self._wait(received, min(_AGAIN, self._timing.end))
            self._reap()


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Yield a socket from which SIGTERM, SIGINT and SIGHUP are read as bytes (self-pipe).

    Their handlers do nothing: no signal interrupts other work, and none waits for a wait's end.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        watched = (*_STOPS, signal.SIGHUP)
        handlers = {number: signal.signal(number, lambda *_: None) for number in watched}
        try:
            yield reader
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """Block signals; a process started in the block inherits that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(child: Child, settings: Settings, listening: socket.socket, patience: float) -> None:
    """Run in a child: end with the supervisor, and leave a terminal's signals to it."""
    for number in _BLOCKED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
    threading.Thread(target=_end_with_supervisor, args=(patience,), daemon=True).start()
    child(settings, listening)


def _end_with_supervisor(patience: float) -> None:
    """Wait until the supervisor has ended, then end this process as the supervisor would."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None, "runs in a child only"
    supervisor.join()
    until = time.monotonic() + patience
    while time.monotonic() < until:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN)
    os.kill(os.getpid(), signal.SIGKILL)
