"""What tests of the command line stand on: a real server with scripted answers, and a way to run a command."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app

JOB = "job_01m7xg8zneew6v9wgm06s8479n"
KEY = "orc_" + "k" * 32
SECRET = "whsec_aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ="
Answer = tuple[int, Any]


@dataclass
class Fake:
    """A real server with scripted answers, in order, for each method and path. The last one is given again."""

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
    """A fake that listens."""
    found = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.asked.append(
                (
                    f"{self.command} {self.path}",
                    dict(self.headers),
                    json.loads(raw) if raw else None,
                )
            )
            status, document = found.answer(f"{self.command} {self.path.partition('?')[0]}")
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("etag", f'"v{len(found.asked)}"')
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def isolate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give a test its own folder, for what is remembered too, and none of this machine's variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
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


def run(*words: str, stdin: str | None = None) -> Ran:
    result = CliRunner().invoke(app, [*words], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def job(status: str = "succeeded", **more: Any) -> dict[str, Any]:
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
        "output": {"videos": [{"url": "https://cdn.example/v.mp4"}], "images": []},
        "error": None,
        "resolved_by": "push",
        "created_at": "2026-11-20T10:00:00.000Z",
        "finished_at": "2026-11-20T10:01:08.000Z",
        "next_poll_at": None,
    }
    return {**described, **more}


def page(*rows: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [*rows],
        "has_more": more,
        "next_cursor": rows[-1]["id"] if more else None,
    }
