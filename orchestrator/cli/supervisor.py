"""Several processes behind one socket. They share PostgreSQL and nothing else, so one that dies is simply replaced."""

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

_ENDS = (signal.SIGTERM, signal.SIGINT)
#: So many processes that ended before they had started, and none that ever did: none will.
_HOPELESS = 3
#: Seconds from one SIGTERM to the next. A process that is just changing its handlers misses one.
_AGAIN = 1.0

Child = Callable[[Settings, socket.socket], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a supervisor waits for its processes, in seconds."""

    #: A process that lives shorter has not started.
    start: float = 5.0
    #: From the end of such a process to the next start.
    pause: float = 1.0
    #: From SIGTERM until processes are killed. Each drains for less.
    end: float = 40.0


def _nobody_asks(pid: int) -> None:
    """Tell nobody that a process has ended."""


class Supervisor:
    """Keeps `count` processes running `child` until it is told to end. They do not outlive it."""

    def __init__(
        self,
        count: int,
        child: Child,
        settings: Settings,
        listening: socket.socket,
        patience: Patience | None = None,
        gone: Callable[[int], None] = _nobody_asks,
    ) -> None:
        """Prepare. `gone` is told the number of every process that has ended."""
        self._count = count
        self._gone = gone
        self._patience = patience or Patience()
        self._args = (child, settings, listening, self._patience.end)
        self._spawn = multiprocessing.get_context("spawn")
        self._running: dict[SpawnProcess, float] = {}
        self._told: list[int] = []
        self._failed = 0
        self._started = False
        self._resume = 0.0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; SIGINT after either ends at once.

        Raises `Failure` if no process ever started, and after SIGINT KeyboardInterrupt, when all have ended.
        """
        # The first spawn would start it otherwise, and it unblocks SIGINT meanwhile.
        resource_tracker.ensure_running()
        with _hearing() as ear:
            try:
                self._keep(ear)
            finally:
                self._end(ear)
        if signal.SIGINT in self._told:
            raise KeyboardInterrupt

    def _keep(self, ear: socket.socket) -> None:
        while not self._told:
            while len(self._running) < self._count and self._may_start():
                self._start()
            if self._hopeless() and not self._running:
                raise Failure("the service did not start", hint="the log above says why")
            self._wait(ear, self._patience.pause)
            self._look()

    def _hopeless(self) -> bool:
        """Tell whether to start no more; one that runs already may still show that it can."""
        return not self._started and self._failed >= _HOPELESS

    def _may_start(self) -> bool:
        return not self._hopeless() and time.monotonic() >= self._resume

    def _start(self) -> None:
        process = self._spawn.Process(target=_follow, args=self._args)
        try:
            with _blocked(signal.SIGINT):
                process.start()
        except OSError as error:
            # No memory, or no room for another process: those that run need not end for it.
            log.warning("a process could not be started", error=str(error))
            self._fail()
        else:
            self._running[process] = time.monotonic()

    def _fail(self) -> None:
        self._failed += 1
        self._resume = time.monotonic() + self._patience.pause

    def _wait(self, ear: socket.socket, seconds: float) -> None:
        """Wait until a process ends or we are told to end, at most so long."""
        wait([ear, *(process.sentinel for process in self._running)], timeout=seconds)
        with contextlib.suppress(BlockingIOError):
            self._told += [number for number in ear.recv(64) if number in _ENDS]

    def _look(self) -> None:
        """Let go of processes that ended, and remember whether one ever started."""
        for process, since in list(self._running.items()):
            lived = time.monotonic() - since
            started = lived >= self._patience.start
            self._started = self._started or started
            if process.is_alive():
                continue
            del self._running[process]
            self._gone(process.pid or 0)
            if not self._told:
                log.warning(
                    "a process ended",
                    pid=process.pid,
                    exit_code=process.exitcode,
                    seconds=round(lived, 1),
                )
                if not started:
                    self._fail()

    def _end(self, ear: socket.socket) -> None:
        until = time.monotonic() + self._patience.end
        while self._running:
            at_once = time.monotonic() >= until or signal.SIGINT in self._told[1:]
            for process in self._running:
                if at_once:
                    log.warning("a process is killed", pid=process.pid)
                    process.kill()
                else:
                    process.terminate()
            self._wait(ear, min(_AGAIN, self._patience.end))
            self._look()


@contextlib.contextmanager
def _hearing() -> Iterator[socket.socket]:
    """Give what SIGTERM and SIGINT can be read from, as bytes.

    Their handlers do nothing: no signal finds us in the middle of something, and none waits for the end of a wait.
    """
    ear, mouth = socket.socketpair()
    with ear, mouth:
        ear.setblocking(False)
        mouth.setblocking(False)
        wakes = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in _ENDS}
        try:
            yield ear
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakes)


@contextlib.contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Let a signal wait meanwhile; a process that is started here is born so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(child: Child, settings: Settings, listening: socket.socket, patience: float) -> None:
    """Be one of the processes: end with the supervisor, and leave Ctrl-C, which a terminal sends to all, to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_outlive, args=(patience,), daemon=True).start()
    child(settings, listening)


def _outlive(patience: float) -> None:
    """Wait for the supervisor to be gone, killed perhaps; then end this process as the supervisor would have."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None, "runs in a child only"
    supervisor.join()
    until = time.monotonic() + patience
    while time.monotonic() < until:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN)
    os.kill(os.getpid(), signal.SIGKILL)
