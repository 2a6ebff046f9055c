"""`python -m tests.chaos.nursery`: imports the product once, and forks a process of it for each line it is told.

A start then costs what the product's own start costs, and not seconds of imports: replicas die and come back often.
A line is JSON: the module to run and its arguments, files for what it says, and what is added to the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.harness.audit import Json
from tests.harness.processes import ROOT

#: What those who will be forked import; themselves not, since they are yet to be run.
_WARM = (
    "orchestrator.cli.service", "orchestrator.simulator.__main__", "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite", "alembic.command", "uvloop", "httptools", "tests.harness.short_leases",
    "tests.chaos.failpoints",
)  # fmt: skip


@dataclass
class Born:
    """A process of the nursery."""

    pid: int
    ended: asyncio.Future[int]

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def send_signal(self, signal: int) -> None:
        """Send it a signal."""
        if self.returncode is None:
            os.kill(self.pid, signal)

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        return await asyncio.shield(self.ended)


@dataclass
class Nursery:
    """The other end of the nursery's pipe."""

    child: asyncio.subprocess.Process
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _pids: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    _ends: dict[int, asyncio.Future[int]] = field(default_factory=dict)

    async def spawn(
        self,
        *words: str,
        log: Path,
        out: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Born:
        """Start a process."""
        assert self.child.stdin is not None
        told = {
            "words": words,
            "log": str(log),
            "out": str(out or log),
            "environment": dict(environment or {}),
        }
        async with self._turn:
            self.child.stdin.write(json.dumps(told).encode() + b"\n")
            pid = await self._pids.get()
        return Born(pid, self._end_of(pid))

    async def listen(self) -> None:
        """Hear of births and deaths until the nursery ends."""
        assert self.child.stdout is not None
        while line := await self.child.stdout.readline():
            said = json.loads(line)
            if "code" in said:
                self._end_of(said["pid"]).set_result(said["code"])
            else:
                self._pids.put_nowait(said["pid"])

    def _end_of(self, pid: int) -> asyncio.Future[int]:
        if pid not in self._ends:
            self._ends[pid] = asyncio.get_running_loop().create_future()
        return self._ends[pid]


@contextlib.asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """Run a nursery until the end of the block; its processes end with it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.nursery", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    it = Nursery(child)
    listening = asyncio.create_task(it.listen())
    try:
        yield it
    finally:
        assert child.stdin is not None
        child.stdin.close()
        await child.wait()
        await listening


def _say(**words: int) -> None:
    # One short write: a pipe keeps it whole, whatever a signal comes between.
    os.write(1, json.dumps(words).encode() + b"\n")


def _reap(_number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            _say(pid=found[0], code=os.waitstatus_to_exitcode(found[1]))


def _become(words: list[str], log: str, out: str, environment: Mapping[str, str]) -> None:
    """Be the process that runs a module: what is printed and read is not the nursery's any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, out), (2, log)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.update(environment)
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def main() -> None:
    """Fork for each line, until there are no more; then end all that were forked."""
    for name in _WARM:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, _reap)
    born = []
    for line in sys.stdin:
        told: Json = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(**told)
            return
        born.append(pid)
        _say(pid=pid)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for pid in born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
