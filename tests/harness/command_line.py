"""Tools of the command line's tests: a scripted server, commands in this process, documents."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app

JOB = "job_01m7xg8zneew6v9wgm06s8479n"
EVENT, SUBSCRIBER, DELIVERY, REPLAY, KEY_ID = (
    JOB.replace("job_", f"{prefix}_") for prefix in ("evt", "sub", "dlv", "rpl", "key")
)
AT = "2026-11-20T10:00:00.000Z"
KEY = "orc_" + "k" * 32
SECRET = "whsec_aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ="
Answer = tuple[int, Any]


@dataclass
class Fake:
    """A real server with scripted answers, in order, per method and path. The last one repeats."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""

    def script(self, call: str, *answers: Answer) -> None:
        self.answers[call] = [*answers]

    def answer(self, call: str) -> Answer:
        waiting = self.answers.get(call) or [
            (404, {"title": "Not found", "detail": "no such thing"})
        ]
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@contextlib.contextmanager
def faked() -> Iterator[Fake]:
    """Run a fake server."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            fake.asked.append(
                (
                    f"{self.command} {self.path}",
                    dict(self.headers),
                    json.loads(raw) if raw else None,
                )
            )
            status, document = fake.answer(f"{self.command} {self.path.partition('?')[0]}")
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("etag", f'"v{len(fake.asked)}"')
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def isolate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give a test its own folder, also for state, and none of this machine's variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Set first, so that a command which sets it does not set it for other tests.
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    for name in os.environ:
        if name.upper().startswith("ORCHESTRATOR_") or name in (
            "DATABASE_URL",
            "PORT",
            "PUBLIC_URL",
        ):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def run(*words: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Ran:
    """Run a command in this process, without a terminal."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    try:
        result = CliRunner().invoke(app, [*words], input=stdin, env=env, prog_name="orchestrator")
    finally:
        # `serve` logs to the captured stderr, which is closed by now.
        root.handlers[:] = handlers
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def on_terminal(
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    typed: str = "",
    stderr: bool = True,
    program: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """Run a command, or `program`, in this process on a pseudo-terminal of 80 columns.

    Return its exit code and the screen.
    """
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, 80))
    # rich asks the process's own streams for their size, unless this is set.
    monkeypatch.setenv("COLUMNS", "80")
    shown: list[bytes] = []
    reader = threading.Thread(target=_read, args=(screen, shown))
    reader.start()
    os.write(screen, typed.encode())
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            file = stack.enter_context(os.fdopen(os.dup(terminal), mode))
            if name != "stderr" or stderr:
                patch.setattr(sys, name, file)
        code: object = 0
        try:
            if program:
                program()
            else:
                app([*words], prog_name="orchestrator")
        except SystemExit as end:
            code = end.code
    os.close(terminal)
    reader.join()
    os.close(screen)
    assert isinstance(code, int)
    return code, b"".join(shown).decode()


def _read(screen: int, shown: list[bytes]) -> None:
    # Linux reports with EIO that the last writer of a terminal has closed it.
    with contextlib.suppress(OSError):
        while part := os.read(screen, 4096):
            shown.append(part)


# -- documents of the API


def job(
    status: str = "succeeded", *, error: Any = None, output: Any = None, **more: Any
) -> dict[str, Any]:
    described = {
        "id": JOB,
        "object": "job",
        "status": status,
        "account": "main",
        "vendor": "cloudsway",
        "model": "m",
        "capability": "text2video",
        "external_task_id": "order-991",
        "vendor_task_id": "9019",
        "vendor_status": "done",
        "progress": None,
        "input": {"prompt": "a cat"},
        "output": output or {"videos": [file("https://cdn.example/v.mp4")], "images": []},
        "error": error and {"message": "", "vendor_code": None, "vendor_message": None, **error},
        "metadata": {},
        "resolved_by": "push",
        "retry_of": None,
        "version": 1,
        "created_at": AT,
        "submitted_at": AT,
        "finished_at": "2026-11-20T10:01:08.000Z",
        "deadline_at": "2026-11-21T10:00:00.000Z",
        "next_poll_at": None,
        "links": {"self": "", "timeline": "", "events": ""},
    }
    return {**described, **more}


def file(url: str, duration: float | None = None) -> dict[str, Any]:
    return {"id": None, "url": url, "duration": duration, "expires_at": None}


def entry(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": "1", "at": AT, "kind": kind, **more}


def event(data: Any = None, **more: Any) -> dict[str, Any]:
    about = data or {}
    described: dict[str, Any] = {
        "object": "event",
        "type": f"job.{about.get('status', 'succeeded')}",
        "timestamp": AT,
        "id": EVENT,
        "sequence": 1,
        "data": about,
        "job": about.get("id"),
        "source": "push",
    }
    return {**described, **more}


def subscriber(**more: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": SUBSCRIBER,
        "object": "subscriber",
        "kind": "webhook",
        "url": "https://my.app/hook",
        "types": ["job.*"],
        "description": "",
        "rate_limit": None,
        "max_in_flight": 8,
        "options": {},
        "status": "active",
        "disabled_reason": None,
        "failing_since": None,
        "created_at": AT,
    }
    return {**described, **more}


def delivery(status: str = "delivered", **more: Any) -> dict[str, Any]:
    answered = {"n": 1, "at": AT, "status": 200, "ms": 35, "error": None, "response": "thanks"}
    described = {
        "id": DELIVERY,
        "object": "delivery",
        "event": EVENT,
        "event_type": "subscriber.test",
        "job": None,
        "subscriber": SUBSCRIBER,
        "host": "my.app",
        "status": status,
        "tries": 1,
        "last_status": 200,
        "last_error": None,
        "next_attempt_at": None,
        "created_at": AT,
        "done_at": AT,
        "attempts": [answered],
    }
    return {**described, **more}


def replay(status: str = "running", replayed: int = 0, **more: Any) -> dict[str, Any]:
    described = {
        "id": REPLAY,
        "object": "replay",
        "status": status,
        "subscriber": None,
        "event": None,
        "filter": {"status": "dead", "types": None, "missed": False, "since": None, "until": None},
        "rate": None,
        "count": 3,
        "replayed": replayed,
        "created_at": AT,
        "finished_at": None,
    }
    return {**described, **more}


def replay_count(count: int) -> dict[str, Any]:
    names = ("object", "subscriber", "event", "filter")
    return {name: replay()[name] for name in names} | {"dry_run": True, "count": count}


def account(name: str, **more: Any) -> dict[str, Any]:
    described = {
        "object": "account",
        "name": name,
        "vendor": "kling",
        "capabilities": ["text2video"],
        "lookup": "by_external_id",
        "in_flight": 0,
        "max_in_flight": 10,
        "rate_limit": None,
        "pushes": 0,
        "pushes_missed": 0,
        "pushes_degraded": False,
        "polls": 0,
        "last_push_at": None,
        "paused_until": None,
    }
    return {**described, **more}


def account_check(account: str, **more: Any) -> dict[str, Any]:
    described = {
        "object": "account_check",
        "account": account,
        "reachable": True,
        "authorized": True,
        "detail": "took them",
        "status": 400,
        "vendor_code": 1201,
        "vendor_message": "Task not found",
        "latency_ms": 12,
        "clock_skew_seconds": 0.0,
        "checked_at": AT,
    }
    return {**described, **more}


def api_key(**more: Any) -> dict[str, Any]:
    described = {
        "object": "api_key",
        "id": KEY_ID,
        "name": "ci",
        "prefix": "orc_abcdef",
        "scope": "write",
        "rate_limit": None,
        "created_at": AT,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    return {**described, **more}


def page(*rows: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [*rows],
        "has_more": more,
        "next_cursor": rows[-1]["id"] if more else None,
    }
