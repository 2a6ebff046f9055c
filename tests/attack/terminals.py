"""Texts of callers and vendors on an operator's terminal, in completion and in the log."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.attack.arena import Arena
from tests.attack.attack import Report, Skipped, attack
from tests.attack.commands import run
from tests.attack.origin import Asked, dreamto, replies, response
from tests.harness.api_caller import KEY
from tests.harness.fork_server import ROOT

#: Each would make the file `pwned`, where a shell evaluates it.
_INJECTIONS = (
    r"\$(touch pwned)", "$(touch pwned)", "`touch pwned`", r"\`touch pwned\`", "';touch pwned;'",
    '";touch pwned;"', "\n touch pwned\n", r"\\$(touch pwned)", "${(e):-`touch pwned`}",
    ":$(touch pwned)", "]$(touch pwned)[", '"$(touch pwned)"', "$'\\x24(touch pwned)'",
)  # fmt: skip
_ESCAPE = "\x1b]0;title\x07\x1b[31m\x9b31m"
#: What a shell reads first, and what it is given before Tab.
_SHELLS = {
    "bash": ("--norc --noprofile -i", 'eval "$(orchestrator completion show bash)"'),
    "zsh": ("-f -i", "autoload -Uz compinit; compinit -u -d ./dump;"
            ' eval "$(orchestrator completion show zsh)"'),
    "fish": ("--no-config -i", "orchestrator completion show fish | source"),
}  # fmt: skip
_LINES = (
    "orchestrator jobs show ", "orchestrator jobs retry job_", "orchestrator subscribers show ",
    "orchestrator submit --account ", "orchestrator deliveries show ",
)  # fmt: skip


def _take_terminal() -> None:
    """Make stdin the controlling terminal of a new session: fish needs one."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _screen(shell: str, folder: Path, environment: dict[str, str]) -> str:
    """Type the lines and Tab in a shell on a terminal; return what it showed."""
    flags, setting_up = _SHELLS[shell]
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (60, 200))
    process = subprocess.Popen(
        [shell, *flags.split()], cwd=folder, env=environment, stdin=terminal, stdout=terminal,
        stderr=terminal, start_new_session=True, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b""

    def read(seconds: float, mark: bytes = b"") -> None:
        nonlocal shown
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not (mark and mark in shown):
            if select.select([master], [], [], min(left, 0.2))[0]:
                with contextlib.suppress(OSError):
                    shown += os.read(master, 65_536)

    def settle(seconds: float) -> None:
        """Read until something came, and then nothing more for a moment."""
        before, ends = len(shown), time.monotonic() + seconds
        while time.monotonic() < ends:
            size = len(shown)
            read(0.7)
            if before < len(shown) == size:
                return

    def type_in(text: str) -> None:
        os.write(master, text.encode())

    try:
        read(1.5)
        type_in(f"{setting_up}; echo rea''dy\n")
        read(25, b"ready")
        for line in _LINES:
            type_in(line)
            read(0.3)
            for _ in range(3):
                type_in("\t")
                # Completion asks the server, in a process of its own.
                settle(4.0)
            type_in("q\x15\x03" if shell != "fish" else "q\x03")
            read(0.3)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)
    return shown.decode(errors="replace")


def _completion(shell: str) -> None:
    async def attempt(arena: Arena, report: Report) -> None:
        if shutil.which(shell) is None:
            raise Skipped(f"{shell} is not installed")
        for text in (*_INJECTIONS, _ESCAPE):
            await arena.submit(model=f"forged{text}")
            await arena.api.call(
                "POST", "/v1/subscribers",
                {"url": "http://127.0.0.1:9/forged", "types": ["job.*"],
                 "description": f"forged{text}"},
            )  # fmt: skip
            with contextlib.suppress(AssertionError):
                await arena.api.subscribe(f"http://127.0.0.1:9/forged{text}", "job.*")
        folder = arena.folder / "shell"
        folder.mkdir()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TERM": "xterm",
            "HOME": str(folder), "ORCHESTRATOR_SERVER": arena.url, "ORCHESTRATOR_API_KEY": KEY,
            "PS1": "> ",
            "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        shown, offered = "", 0
        # Completion gives up after a moment: a busy machine may need more than one.
        for _ in range(3):
            shown += await asyncio.to_thread(_screen, shell, folder, environment)
            offered = len({*re.findall(r"job_\w{26}", shown)})
            if offered:
                break
        report.figures["ids offered"] = str(offered)
        report.check(offered > 0, "no id is offered: nothing was tried")
        report.check(not (folder / "pwned").exists(), "the command ran")
        report.check("forged" not in shown, "texts of callers are shown")
        report.check("]0;title" not in shown, "an escape sequence reaches the terminal")

    attack(f"completion: texts of callers in {shell}", timeout=240)(attempt)


for _shell in _SHELLS:
    _completion(_shell)

#: Characters at which a terminal, or `splitlines`, begins a line.
_BREAKS = ("\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
_FORGED = "status      succeeded-forged"


@attack("texts: line breaks forge no lines of `show`", timeout=120)
async def forged_lines(arena: Arena, report: Report) -> None:
    """A continuation line is indented and marked."""

    async def refuse(asked: Asked, writer: asyncio.StreamWriter) -> None:
        message = f"no{''.join(f'{each}{_FORGED}' for each in _BREAKS)}"
        body = {"error": {"message": message, "code": "invalid", "type": "invalid_request_error"}}
        writer.write(response(400, json.dumps(body).encode()))

    arena.vendor.answer = refuse
    text = "".join(f"{each}{_FORGED}" for each in _BREAKS)
    job = await arena.submit(model=f"m{text}"[:128], metadata={f"k{text}"[:64]: f"v{text}"})
    await arena.api.ended(job["id"])
    arena.vendor.answer = dreamto()
    made = await arena.api.subscribe("http://127.0.0.1:9/hook", "job.*", description=f"d{text}")
    key = await arena.api.call("POST", "/v1/keys", {"name": f"n{text}"[:100], "scope": "read"})
    env = {"ORCHESTRATOR_SERVER": arena.url, "ORCHESTRATOR_API_KEY": KEY}
    calls = [
        ("jobs", "show", job["id"]), ("jobs", "ls"), ("subscribers", "show", made["id"]),
        ("subscribers", "ls"), ("events", "ls"), ("deliveries", "ls"),
    ]  # fmt: skip
    calls += [("keys", "ls")] if key.is_success else []
    for words in calls:
        ran = await run(arena.folder, *words, env=env)
        report.check(ran.code == 0, f"{' '.join(words[:2])}: exit {ran.code}: {ran.err[-200:]}")
        shown = [line.strip() for line in (ran.out + ran.err).splitlines()]
        forged = [line for line in shown if line.startswith(_FORGED)]
        report.check(not forged, f"{' '.join(words[:2])}: {len(forged)} forged lines")
        raw = {
            f"U+{ord(each[0]):04X}" for each in _BREAKS if each not in ("\n",) and each in ran.out
        }
        report.check(not raw, f"{' '.join(words[:2])}: raw {' '.join(sorted(raw))}")


@attack("texts: the console log escapes them", ORCHESTRATOR_LOG_FORMAT="console")
async def log_lines(arena: Arena, report: Report) -> None:
    """Values without spaces and tracebacks too."""
    hostile = f"x{_ESCAPE}\nFORGED\r\u2028FORGED\x85"
    for message in (hostile, f"{hostile} with spaces", _ESCAPE, f"{_ESCAPE}=\x85"):
        body = {"error": {"message": message, "code": hostile, "type": hostile}}
        for status in (400, 401, 500):
            arena.vendor.answer = replies(status, json.dumps(body).encode())
            await arena.submit(model=f"m{_ESCAPE}")
            await asyncio.sleep(0.2)
        arena.vendor.answer = replies(200, b"\xff" + message.encode(), content_type=hostile[:1])
        await arena.submit()
    arena.vendor.answer = dreamto()
    job = await arena.submit()
    path = (await arena.taken(job["id"])).removeprefix(arena.url)
    await arena.api.http.post(path, content=hostile.encode())
    await arena.api.http.get("/v1/jobs/x", headers={"x-request-id": "a\x7fb"})
    await asyncio.sleep(0.5)
    log = arena.service.log.read_bytes().decode(errors="replace")
    raw = {f"U+{ord(each):04X}" for each in log if _is_control(each)}
    report.check(not raw, f"raw {' '.join(sorted(raw))}")
    forged = [line for line in log.splitlines() if line.startswith("FORGED")]
    report.check(not forged, f"{len(forged)} forged lines")


def _is_control(each: str) -> bool:
    code = ord(each)
    return (code < 32 and each != "\n") or 0x7F <= code < 0xA0 or each in "\u2028\u2029"
