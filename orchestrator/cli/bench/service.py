"""Processes on loopback: `orchestrator serve` under measurement, stubs and reference servers.

They are observed from outside, and end with the block that started them or with this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

from orchestrator.cli.bench.measurement import JsonObject, MeasurementFailed, Usage
from orchestrator.cli.bench.raw_http import listen, port_of
from orchestrator.cli.bench.scratch_database import ScratchDatabase
from orchestrator.cli.bench.statement_counter import StatementCounter

SECRET = "bench-" + "k" * 40
API_KEY = "orc_" + "b" * 40
#: The header line that authorizes a request to the service.
AUTHORIZATION = f"authorization: Bearer {API_KEY}\r\n"
_POLL = ("first_after", "interval", "max_interval")
#: Seconds for a process to start (a database may be large), and to end.
START_TIMEOUT, END_TIMEOUT = 120.0, 40.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process, and the port that it listens on."""

    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]
    counter: StatementCounter | None = None
    #: Seconds from the start of the process until `/readyz` answered 200.
    ready_after: float = 0.0

    def usage(self) -> Usage:
        """Return the resources used so far. Raises `MeasurementFailed` if the process ended."""
        cpu, rss = process_usage(self.process.pid)
        return Usage(time.monotonic(), cpu, *(self.counter.read() if self.counter else (0, 0)), rss)

    def wait_ready(self, port: int) -> None:
        """Wait until `/readyz` answers 200. Raises `MeasurementFailed` with the end of the log."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, HTTPException):
                probe = HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)
                with contextlib.closing(probe):
                    probe.request("GET", "/readyz")
                    if probe.getresponse().status == 200:
                        return
            time.sleep(0.005)
        raise MeasurementFailed(f"the service did not start: {_tail(self.log)}")


@contextlib.contextmanager
def child(module: str, *arguments: str, announces: bool = True) -> Iterator[Child]:
    """Run `python -m orchestrator.cli.bench.MODULE ARGUMENTS` until the end of the block.

    `announces`: it prints its port when it listens. Raises `MeasurementFailed` if it does not, or
    if it has failed by the end of the block.
    """
    command = [sys.executable, "-m", f"orchestrator.cli.bench.{module}", *arguments]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C reaches the bench alone, which ends the others in order.
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            command, stdin=pipe, stdout=pipe, stderr=log, env=_environment(), start_new_session=True
        )
        try:
            assert process.stdout is not None, "it is a pipe"
            line = process.stdout.readline() if announces else b"0"
            if not line:
                raise MeasurementFailed(f"{module} did not start: {_tail(log)}")
            yield Child(process, int(line), log)
        except BaseException:
            _end(process)
            raise
        if (code := _end(process)) > 0:
            raise MeasurementFailed(f"{module} ended with {code}: {_tail(log)}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-800:].decode(errors="replace").strip() or "its log is empty"


def _end(process: subprocess.Popen[bytes]) -> int:
    """Terminate a process, or kill it; return its exit code, or minus the signal's number."""
    process.terminate()
    try:
        process.communicate(timeout=END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def _environment() -> dict[str, str]:
    """Return our environment without the settings of this machine's own service."""
    ours = re.compile("ORCHESTRATOR_.*|DATABASE_URL|PORT|PUBLIC_URL", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}


def process_usage(pid: int) -> tuple[float, int]:
    """Return CPU seconds and resident bytes. Raises `MeasurementFailed` if the process ended."""
    try:
        stat = Path("/proc") / str(pid) / "stat"
        if stat.exists():
            # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: the name in parentheses
            # may contain anything; user and system time are fields 14 and 15, pages are 24.
            fields = stat.read_text().rpartition(")")[2].split()
            ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
            return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")
        command = ["/bin/ps", "-o", "rss=,cputime=", "-p", str(pid)]
        output = subprocess.check_output(command, text=True)  # noqa: S603 - a number of ours
        kilobytes, clock = output.split()
        parts = [float(part) for part in reversed(clock.split(":"))]
        return sum(part * 60**place for place, part in enumerate(parts)), int(kilobytes) << 10
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise MeasurementFailed(f"process {pid} ended") from error


def accounts_of(count: int, **changes: Any) -> JsonObject:
    """Return settings of accounts `bench-0` and so on: never full, not polled unless changed."""
    account: JsonObject = {"vendor": "kling", "base_url": "http://127.0.0.1:9", "api_key": "k"}
    account |= {"max_in_flight": 10_000, "poll": dict.fromkeys(_POLL, 3600), **changes}
    return {f"bench-{number}": account.copy() for number in range(count)}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with listen() as free:
        return port_of(free)


def configure(database: ScratchDatabase, accounts: JsonObject, **more: Any) -> Path:
    """Write the configuration of services on a database; return its path."""
    config = database.folder / "orchestrator.toml"
    settings = {
        "database_url": database.url,
        "secret_keys": [SECRET],
        "api_keys": [API_KEY],
        "api_rate_limit": 0,
        "allow_private": ["127.0.0.0/8"],
        "log_format": "json",
        "accounts": accounts,
        **more,
    }
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()))
    return config


@contextlib.contextmanager
def serve(config: Path, port: int) -> Iterator[Child]:
    """Run a service until the end of the block, then shut it down gracefully."""
    counts = config.with_name(f"counts-{port}")
    words = (str(counts), "--config", str(config), "serve", "--port", str(port))
    began = time.perf_counter()
    with (
        contextlib.closing(StatementCounter(counts)) as counter,
        child("statement_counter", *words, announces=False) as process,
    ):
        process.wait_ready(port)
        ready_after = time.perf_counter() - began
        yield replace(process, port=port, counter=counter, ready_after=ready_after)


@contextlib.contextmanager
def service(database: ScratchDatabase, accounts: JsonObject) -> Iterator[Child]:
    """Run the service on a database until the end of the block, then shut it down gracefully."""
    with serve(configure(database, accounts), free_port()) as process:
        yield process


@contextlib.contextmanager
def reference_server(*arguments: str) -> Iterator[Child]:
    """Run a reference server until the end of the block."""
    with child("reference_server", *arguments) as process:
        process.wait_ready(process.port)
        yield process


def _toml(value: object) -> str:
    """Return a value as TOML, which differs from JSON in its objects."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f'"{key}" = {_toml(item)}' for key, item in value.items()) + " }"
    return json.dumps(value)
