"""A shell that runs the documentation's blocks one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness.documents import ROOT

#: Ends a block's output; its exit status follows.
_MARK = "\x1e"
_SECONDS = 60


@dataclass
class Shell:
    """A bash that reads from its standard input. `swaps` replaces the ports in the documents."""

    process: asyncio.subprocess.Process
    swaps: Mapping[str, str]

    async def paste(self, code: str) -> str:
        """Run a block and return what it printed, both streams. Fails if its last command does."""
        for printed, free in self.swaps.items():
            code = code.replace(printed, free)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{code}\nprintf '{_MARK}%s\\n' $?\n".encode())
        await self.process.stdin.drain()
        output = await asyncio.wait_for(self._until_mark(), _SECONDS)
        text, _, status = output.rpartition(_MARK)
        assert status.strip() == "0", f"exit status {status.strip()} of\n{code}\n{text}"
        return text

    async def _until_mark(self) -> str:
        assert self.process.stdout is not None
        output = (await self.process.stdout.readuntil(_MARK.encode())).decode()
        return output + (await self.process.stdout.readline()).decode()


@contextlib.asynccontextmanager
async def shell(
    folder: Path, swaps: Mapping[str, str], environment: Mapping[str, str]
) -> AsyncIterator[Shell]:
    """Open a shell in the checkout, with the home `folder` and without this machine's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "PYTEST_"))
    }
    own = {
        **kept,
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **environment,
    }
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-s"),
        cwd=ROOT,
        env=own,
        start_new_session=True,
        limit=2**20,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Shell(process, swaps)
    finally:
        # Background processes of a block are in the shell's process group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
