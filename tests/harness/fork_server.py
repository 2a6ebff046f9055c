"""`python -m tests.harness.fork_server`: imports the product once, forks a process per connection.

A process then starts without its imports, which take a second of CPU. A request is a line of JSON:
module and arguments, environment, and either files for stderr and stdout, or a folder and the three
standard streams as descriptors. The reply is the pid, and the exit code once the process has ended.

* `fork` starts a process from a coroutine.
* `command` is the command line of such a process, for `subprocess`.
* `programs` is a folder with `orchestrator` and `python -m`, for the PATH of a shell.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.harness import once

ROOT = Path(__file__).parents[2]
_CLIENT = Path(__file__).with_name("forked.py")
#: What forked processes import. Modules that they run are excluded: `runpy` executes those anew.
_PRELOAD = (
    "orchestrator.cli.service", "orchestrator.cli.serve", "orchestrator.simulator.control",
    "orchestrator.cli.demo.run", "orchestrator.embed", "uvicorn.main", "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop", "uvloop", "httptools", "httpcore", "encodings.idna", "typer._adapters",
    "alembic.command", "alembic.config", "apscheduler.executors.asyncio",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite",
    "tests.chaos.failpoints",
)  # fmt: skip


class ForkedProcess:
    """A process of the fork server."""

    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self._exit_code = asyncio.create_task(_exit_code(reader, writer))

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._exit_code.result() if self._exit_code.done() else None

    def send_signal(self, signal: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, signal)

    async def wait(self) -> int:
        """Wait for the process and return its exit code."""
        return await asyncio.shield(self._exit_code)


async def _exit_code(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        return int(await reader.readline())
    finally:
        writer.close()


async def fork(
    *arguments: str,
    log: Path,
    out: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ForkedProcess:
    """Start `python -m arguments` in the root of the repository. Stdout goes to `out` or `log`."""
    # The process opens them later than this returns.
    for file in (log, out or log):
        file.touch()
    request = {
        "arguments": arguments,
        "log": str(log),
        "out": str(out or log),
        "environment": {**os.environ, **(environment or {})},
    }
    reader, writer = await asyncio.open_unix_connection(_server())
    writer.write(json.dumps(request).encode() + b"\n")
    return ForkedProcess(int(await reader.readline()), reader, writer)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in a forked process, in the caller's folder."""
    return [sys.executable, "-IS", str(_CLIENT), _server(), module, *arguments]


def pid_of(client: int) -> int:
    """Return the pid of the process that runs for a client, once it does. Its name is this pid."""
    name = Path(f"/proc/{client}/comm")
    while not (found := name.read_text().strip()).isdecimal():
        time.sleep(0.01)
    return int(found)


@cache
def programs() -> Path:
    """Return a folder with the programs `orchestrator` and `python`, which fork for our modules.

    `serve` is not forked: pages kill it, and a forked process outlives its client for a moment.
    """
    folder = Path(_server()).with_name(f"bin-{os.getpid()}")
    folder.mkdir()
    forked = shlex.join(command("orchestrator"))
    module = shlex.join(command("")[:-1])
    fresh = shlex.join([sys.executable, "-m", "orchestrator"])
    for name, script in {
        "orchestrator": f'[ "$1" = serve ] && exec {fresh} "$@"\nexec {forked} "$@"\n',
        "python": f'if [ "$1" = -m ]; then shift; exec {module} "$@"; fi\n'
        f'exec {shlex.quote(sys.executable)} "$@"\n',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o700)
    return folder


#: Names the socket of a fork server that the workers of pytest share.
_SHARED = "PYTEST_FORK_SERVER"


def share() -> None:
    """Start a fork server for the workers that this process starts from now on."""
    os.environ[_SHARED] = _server()


@cache
def _server() -> str:
    """Start a fork server that ends with this process, and return the path of its socket.

    In a worker of pytest, return that of the server that all share: its imports take long.
    """
    if shared := os.environ.get(_SHARED):
        return shared
    folder = tempfile.mkdtemp(prefix="fork-")
    path = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.fork_server", str(listener.fileno())],
            cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return path


def _monitor(connection: socket.socket) -> None:
    """Fork the requested process and report its pid and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams = _received(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run_module(streams, **request)
        return
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    if streams:
        _kill_without_client(pid, connection)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a request, and the standard streams that come with it, if any."""
    first, streams, _, _ = socket.recv_fds(connection, 1 << 16, len((0, 1, 2)))
    with connection.makefile("rb") as lines:
        rest = b"" if first.endswith(b"\n") else lines.readline()
    return json.loads(first + rest), streams


def _kill_without_client(pid: int, connection: socket.socket) -> None:
    """Wait for the end of a process; kill it if its client ends first."""
    ended = os.pidfd_open(pid)
    found, _, _ = select.select([ended, connection.fileno()], [], [])
    if ended not in found:
        os.kill(pid, signal.SIGKILL)


def _run_module(
    streams: list[int],
    arguments: list[str],
    environment: Mapping[str, str],
    folder: str = "",
    log: str = "",
    out: str = "",
) -> None:
    """Run a module in the forked process, with its own stdin, stdout and stderr."""
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    own = streams or [
        os.open(os.devnull, os.O_RDONLY), os.open(out, appended, 0o600),
        os.open(log, appended, 0o600),
    ]  # fmt: skip
    for number, stream in enumerate(own):
        os.dup2(stream, number)
        os.close(stream)
    # A text stream remembers the kind of its file.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    if folder:
        os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments[1:]
    gc.enable()
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        _exit(ended.code)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """End as an interpreter does, but free no objects: that would copy the pages of all."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _commands() -> list[str]:
    """Return the modules of the commands. A bench starts processes of its own."""
    from orchestrator import cli

    modules = (each for name, each in cli._MODULES.items() if name != "bench")
    return [f"orchestrator.cli.{module}" for each in modules for module in each]


def main() -> None:
    """Fork for each connection until stdin ends, then kill all forked processes."""
    gc.disable()
    for name in (*_PRELOAD, *_commands()):
        importlib.import_module(name)
    once.end_sooner()
    once.skip_syncs()
    gc.freeze()
    # The kernel reaps the monitors.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(fileno=int(sys.argv[1]))
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _monitor(connection)
            return
        connection.close()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
