"""Real shells: one runs the documentation's blocks in order, others complete a line with Tab."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness import fork_server
from tests.harness.documents import ROOT

#: Ends a block's output; its exit status follows.
_MARK = "\x1e"
_SECONDS = 60
#: The folder of programs on the pages.
INSTALLED = "$PWD/.venv/bin"


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
    folder: Path,
    swaps: Mapping[str, str],
    environment: Mapping[str, str],
    programs: Path | None = None,
) -> AsyncIterator[Shell]:
    """Open a shell in the checkout, with the home `folder` and without this machine's settings.

    `programs` has `orchestrator` and `python`; by default they fork instead of importing anew.
    """
    programs = programs or fork_server.programs()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "PYTEST_"))
    }
    own = {**kept, "HOME": str(folder), "PATH": f"{programs}:{os.environ['PATH']}", **environment}
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
        yield Shell(process, {INSTALLED: str(programs), **swaps})
    finally:
        # Background processes of a block are in the shell's process group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


#: How an interactive shell without start-up files begins, and loads the completion as documented.
_COMPLETING = {
    "bash": (
        ("bash", "--norc", "--noprofile", "-i"),
        'eval "$(orchestrator completion show bash)"',
    ),
    "zsh": (
        ("zsh", "-f", "-i"),
        'autoload -Uz compinit; compinit -u; eval "$(orchestrator completion show zsh)"',
    ),
    "fish": (("fish", "--no-config", "-i"), "orchestrator completion show fish | source"),
}
#: Shells of this machine that have a completion script. Only bash is on every machine.
COMPLETING = [name for name in _COMPLETING if shutil.which(name)]


def completed_in(shell: str, line: str, word: str, folder: Path, **environment: str) -> str:
    """Type `line` and Tab in an interactive shell until `word` is offered. Return the screen.

    `folder` is its working directory and its home.
    """
    command, load = _COMPLETING[shell]
    path = f"{fork_server.programs()}:{os.environ['PATH']}"
    own = {**environment, "HOME": str(folder), "PATH": path, "TERM": "xterm"}
    screen, terminal = pty.openpty()
    # A shell edits lines on its controlling terminal only.
    process = subprocess.Popen(
        ["setsid", "--ctty", *command],
        cwd=folder,
        env={**os.environ, **own},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        os.write(screen, f"{load}; echo LOA''DED\r".encode())
        _shown(screen, "LOADED", lambda: None)
        os.write(screen, line.encode())
        # A busy machine's completion misses its deadline: Tab again.
        return _shown(screen, word, lambda: os.write(screen, b"\t"))
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def _shown(screen: int, word: str, ask: Callable[[], object]) -> str:
    """Return what a terminal shows until `word`, asking every two seconds."""
    text, end = "", time.monotonic() + _SECONDS
    while word not in text:
        assert time.monotonic() < end, f"{word} is not shown: {text!r}"
        ask()
        while word not in text and select.select([screen], [], [], 2)[0]:
            text += os.read(screen, 4096).decode("utf-8", "replace")
    return text
