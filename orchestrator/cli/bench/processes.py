"""Processes of a bench: started on loopback, watched from outside, and gone when it ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from orchestrator.cli.bench.plan import Spoiled

#: Seconds for a process to start (a database may be large), and to end.
_STARTS = 120.0
_ENDS = 40.0
_LOOK = 0.005
_TAIL = 800
#: What this machine's own service is configured with: none of it is for the one that is measured.
_OURS = ("DATABASE_URL", "PORT", "PUBLIC_URL")


@dataclass(frozen=True, slots=True)
class Child:
    """A process, and the first line it printed."""

    process: subprocess.Popen[bytes]
    line: bytes
    log: IO[bytes]

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Where it listens, if that is what it printed."""
        return int(self.line)

    def ready(self, port: int) -> None:
        """Wait until `/readyz` says so. Raises `Spoiled` with the end of its log if it never does."""
        until = time.monotonic() + _STARTS
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError, HTTPException):
                probe = HTTPConnection("127.0.0.1", port, timeout=_STARTS)
                with contextlib.closing(probe):
                    probe.request("GET", "/readyz")
                    if probe.getresponse().status == 200:
                        return
            time.sleep(_LOOK)
        raise Spoiled(f"the service did not start: {self.said()}")

    def said(self) -> str:
        """Return the end of what it logged."""
        self.log.seek(0)
        return self.log.read()[-_TAIL:].decode(errors="replace").strip() or "it said nothing"


@contextlib.contextmanager
def child(module: str, *words: str, announces: bool = True) -> Iterator[Child]:
    """Run `python -m module words`. It ends with the block, or when this process is gone.

    `announces` says that it prints a line when it listens. Raises `Spoiled` if it does not, or has failed at the end
    of a block that went well.
    """
    with tempfile.TemporaryFile() as log:
        # Not in our process group: Ctrl-C is ours, and we end the others in good order.
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None, "it is a pipe"
            started = Child(process, process.stdout.readline() if announces else b"", log)
            if announces and not started.line:
                raise Spoiled(f"{module} did not start: {started.said()}")
            yield started
        except BaseException:
            _end(process)
            raise
        if (code := _end(process)) > 0:
            raise Spoiled(f"{module} ended with {code}: {started.said()}")


def _end(process: subprocess.Popen[bytes]) -> int:
    """End a process in good order, or else at once; return its exit code, or minus the signal that ended it."""
    process.terminate()
    try:
        process.communicate(timeout=_ENDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def _environment() -> dict[str, str]:
    named = {
        name: word
        for name, word in os.environ.items()
        if not name.upper().startswith("ORCHESTRATOR_")
    }
    return {name: word for name, word in named.items() if name not in _OURS}


@dataclass(frozen=True, slots=True)
class Burden:
    """What a process has cost so far: CPU seconds, and what it holds, in bytes."""

    cpu: float
    rss: int


def burden(pid: int) -> Burden:
    """Return what a running process costs. Raises `Spoiled` if it is gone."""
    try:
        if (file := Path("/proc") / str(pid) / "stat").exists():
            return _read(file)
        told = subprocess.run(  # noqa: S603 - a number of ours
            ["/bin/ps", "-o", "rss=,cputime=", "-p", str(pid)],
            check=True,
            capture_output=True,
            text=True,
        )
        kilobytes, clock = told.stdout.split()
        return Burden(_seconds(clock), int(kilobytes) << 10)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise Spoiled(f"process {pid} is gone") from error


def _read(file: Path) -> Burden:
    """Read Linux's own books: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    # The name in parentheses may hold anything; user and system time are fields 14 and 15, resident pages 24.
    fields = file.read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Burden(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


def _seconds(clock: str) -> float:
    """Return `[hours:]minutes:seconds` in seconds."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
