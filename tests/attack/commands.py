"""The command line as a process of its own, under limits, with the memory that it took."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness.fork_server import ROOT

#: Bytes of address space.
_MEMORY = 2 << 30
_TIMEOUT = 40


@dataclass(frozen=True)
class Ran:
    """A process that has ended. `code` is None if it had to be killed."""

    code: int | None
    out: str
    err: str
    #: Its largest resident set, in MB.
    peak: float


async def run(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, stdin: str = ""
) -> Ran:
    """Run `orchestrator words` in a folder, with no settings but those of `env`."""
    return await python(folder, "-m", "orchestrator", *words, env=env, stdin=stdin)


async def python(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, stdin: str = ""
) -> Ran:
    """Run the interpreter in a folder."""
    kept = {name: value for name, value in os.environ.items() if "ORCHESTRATOR" not in name}
    own = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "NO_COLOR": "1", **(env or {})}
    command = [sys.executable, *words]
    return await asyncio.to_thread(_run, command, folder, {**kept, **own}, stdin)


def _run(command: list[str], folder: Path, environment: Mapping[str, str], stdin: str) -> Ran:
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as given,
    ):
        given.write(stdin.encode())
        given.seek(0)
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=given, stdout=out, stderr=err
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        code, usage = _waited(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Ran(code, texts[0], texts[1], usage.ru_maxrss / 1024)


def _waited(process: subprocess.Popen[bytes]) -> tuple[int | None, resource.struct_rusage]:
    """Wait for a process, and kill it after a time. `wait4` tells its memory."""
    timer = subprocess.Popen(["sleep", str(_TIMEOUT)])
    killed = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if timer.poll() is not None and not killed:
            killed = True
            process.kill()
        try:
            timer.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    timer.kill()
    timer.wait()
    process.returncode = os.waitstatus_to_exitcode(status)
    return None if killed else process.returncode, usage
