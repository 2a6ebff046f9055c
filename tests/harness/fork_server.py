"""`python -m tests.harness.fork_server`: imports the product once, forks a process per connection.

A process then starts without its imports, which take a second of CPU. A request is a line of JSON:
module and arguments, files for stderr and stdout, environment. The reply is the pid, and the exit
code once the process has ended.
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
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What forked processes import. Modules that they run are excluded: `runpy` executes those anew.
_PRELOAD = (
    "orchestrator.cli.service", "orchestrator.cli.serve", "orchestrator.simulator.__main__",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite",
    "alembic.command", "uvloop", "httptools", "tests.chaos.failpoints",
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


@cache
def _server() -> str:
    """Start a fork server that ends with this process, and return the path of its socket."""
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
    with connection.makefile("r") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run_module(**request)
        return
    connection.sendall(f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _run_module(arguments: list[str], log: str, out: str, environment: Mapping[str, str]) -> None:
    """Run a module in the forked process, with its own stdin, stdout and stderr."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, out), (2, log)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments[1:]
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def main() -> None:
    """Fork for each connection until stdin ends, then kill all forked processes."""
    for name in _PRELOAD:
        importlib.import_module(name)
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
