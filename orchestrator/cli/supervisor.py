"""Several processes behind one socket. They share PostgreSQL and nothing else, so one that dies is simply replaced."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType

import structlog

from orchestrator.cli.failure import Failure
from orchestrator.settings import Settings

log = structlog.get_logger()

#: A process that lives shorter than this has not started; so many of them in a row, and none will.
_STARTED = 5.0
_HOPELESS = 3
#: Seconds for processes to end after SIGTERM, before they are killed. Each drains for less.
_PATIENCE = 40.0

Child = Callable[[Settings, socket.socket], None]


class Supervisor:
    """Keeps `count` processes running `child` until it is told to end."""

    def __init__(self, count: int, child: Child, settings: Settings, listening: socket.socket) -> None:
        self._count = count
        self._child = child
        self._args = (settings, listening)
        self._spawn = multiprocessing.get_context("spawn")
        self._running: dict[SpawnProcess, float] = {}
        self._ending = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; again SIGINT ends at once. Raises `Failure` if processes cannot start."""
        for told in (signal.SIGTERM, signal.SIGINT):
            signal.signal(told, self._told)
        failed = 0
        while not self._ending:
            while len(self._running) < self._count:
                self._start()
            failed = self._watch(failed)
            if failed >= _HOPELESS:
                self._end()
                raise Failure("the service did not start", hint="the log above says why")
        self._end()

    def _start(self) -> None:
        process = self._spawn.Process(target=self._child, args=self._args)
        process.start()
        self._running[process] = time.monotonic()

    def _watch(self, failed: int) -> int:
        """Wait for a process to end; return how many in a row ended before they had started."""
        wait([process.sentinel for process in self._running], timeout=1.0)
        for process in [one for one in self._running if not one.is_alive()]:
            age = time.monotonic() - self._running.pop(process)
            if not self._ending:
                log.warning("a process ended and is replaced", pid=process.pid, exit_code=process.exitcode)
                failed = failed + 1 if age < _STARTED else 0
        return failed

    def _told(self, number: int, _: FrameType | None) -> None:
        if self._ending and number == signal.SIGINT:
            for process in self._running:
                process.kill()
        self._ending = True
        self._tell()

    def _tell(self) -> None:
        for process in self._running:
            if process.is_alive():
                process.terminate()

    def _end(self) -> None:
        self._tell()
        until = time.monotonic() + _PATIENCE
        for process in self._running:
            process.join(max(until - time.monotonic(), 0.0))
            if process.is_alive():
                process.kill()
                process.join()
