"""The command line: what goes to the server, what comes out, and the exit code that scripts rely on."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import typer
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.terminal import clean

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
        waiting = self.answers.get(call) or [(404, {"title": "Not found", "detail": "no such thing"})]
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@pytest.fixture
def fake() -> Iterator[Fake]:
    found = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.asked.append((f"{self.command} {self.path}", dict(self.headers), json.loads(raw) if raw else None))
            status, document = found.answer(f"{self.command} {self.path.partition('?')[0]}")
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the library's names

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


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has its own folder and none of this machine's variables."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("ORCHESTRATOR_") or name in ("DATABASE_URL", "PORT", "PUBLIC_URL"):
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
    return {"object": "list", "data": [*rows], "has_more": more, "next_cursor": rows[-1]["id"] if more else None}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    "path", [path for path, _ in commands(typer.main.get_command(app))], ids=lambda path: " ".join(path)
)
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert shown.code == 0
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", shown.out).split())
    assert f"Example: orchestrator {' '.join(path)}" in words


@pytest.mark.parametrize(
    ("status", "problem", "code"),
    [
        (401, {"title": "Not authenticated"}, 4),
        (403, {"title": "Not allowed"}, 4),
        (404, {"title": "Not found"}, 3),
        (409, {"title": "Conflict"}, 5),
        (422, {"title": "Not the same", "code": "idempotency_key_reused"}, 5),
        (422, {"title": "Not valid", "code": "validation_failed"}, 1),
        (500, {"title": "Ours"}, 1),
        (503, None, 1),
    ],
)
def test_the_exit_code_says_what_kind_of_no_it_was(fake: Fake, status: int, problem: Any, code: int) -> None:
    fake.script("GET /v1/accounts", (status, problem))
    ran = run("--server", fake.url, "accounts", "ls")
    assert ran.code == code
    assert ran.out == ""
    assert f"({status})" in ran.err


def test_a_server_that_is_not_there_is_exit_8_and_a_hint() -> None:
    ran = run("accounts", "ls", "--server", "http://127.0.0.1:1")
    assert ran.code == 8
    assert "orchestrator serve" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "ls", "--nope"),
        ("jobs", "ls", "--since", "yesterday"),
        ("jobs", "show", "video_1"),
        ("submit", "--set", "duration"),
        ("submit", "--input", "{"),
        ("submit", "--input", "@nowhere.json"),
        ("submit", "--input", "[]"),
        ("submit", "--wait", "soon"),
        ("nope",),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_2(words: tuple[str, ...]) -> None:
    assert run("--server", "http://127.0.0.1:1", *words).code == 2


def test_faults_of_a_request_are_listed_with_their_pointers(fake: Fake) -> None:
    faults = [{"pointer": "/model", "message": "Field required"}, {"pointer": "/input/size", "message": "cannot"}]
    fake.script("POST /v1/jobs", (422, {"title": "Request is not valid", "errors": faults, "request_id": "req_1"}))
    ran = run("--server", fake.url, "submit", "--prompt", "a cat")
    assert "/model: Field required" in ran.err
    assert "/input/size: cannot" in ran.err
    assert "req_1" in ran.err


def test_what_a_server_says_is_printed_as_it_is_and_drives_no_terminal(fake: Fake) -> None:
    """Markup that closes nothing has crashed another tool's error printer; escapes would repaint the screen."""
    fake.script("GET /v1/accounts", (400, {"title": "[/bold] \x1b[2J[red]"}))
    ran = run("--server", fake.url, "accounts", "ls")
    assert "[/bold] \N{REPLACEMENT CHARACTER}[2J[red]" in ran.err
    assert clean("a\x1b]0;b\x07\u202e\n") == "a\N{REPLACEMENT CHARACTER}]0;b" + "\N{REPLACEMENT CHARACTER}" * 2 + "\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "ID                              STATUS"),
        (("-q",), f"{JOB}\n"),
        (("--json",), '{\n  "object": "list",'),
    ],
)
def test_a_list_is_a_table_or_ids_or_one_json_document(fake: Fake, options: tuple[str, ...], expected: str) -> None:
    fake.script("GET /v1/jobs", (200, page(job(), more=True)))
    ran = run("--server", fake.url, "jobs", "ls", *options)
    assert ran.out.startswith(expected)
    if "--json" in options:
        assert json.loads(ran.out)["data"][0]["id"] == JOB
    elif not options:
        assert f"--after {JOB}" in ran.err


def test_filters_reach_the_server(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page()))
    run(
        "--server",
        fake.url,
        "jobs",
        "ls",
        "--status",
        "failed",
        "--external-id",
        "a b",
        "--since",
        "2h",
        "--limit",
        "7",
    )
    called = fake.asked[0][0]
    assert "status=failed" in called
    assert "external_task_id=a+b" in called or "external_task_id=a%20b" in called
    assert "limit=7" in called
    assert re.search(r"created_after=20\d\d-", called)
    assert "resolved_by" not in called


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [([JOB], 0, JOB), ([], 3, "no job's id begins"), ([JOB, JOB[:-1] + "0"], 2, "several")],
)
def test_the_unique_beginning_of_an_id_is_enough(fake: Fake, found: list[str], code: int, words: str) -> None:
    fake.script("GET /v1/jobs", (200, page(*(job(id=one) for one in found))))
    ran = run("--server", fake.url, "jobs", "show", JOB[4:12])
    assert ran.code == code
    assert words in ran.out + ran.err
    assert f"after={JOB[:12].ljust(30, 'z')}" in fake.asked[0][0]


def test_submit_builds_the_order_from_file_and_flags(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    Path("order.json").write_text('{"prompt": "from the file", "duration": 5, "extra": {"a": 1}}')
    words = (
        "submit --account main --input @order.json --image https://i.example/1.png --set duration=10 --set extra.b=x"
    )
    more = "--metadata order=991 --external-id order-991 --deadline 1h --callback-url https://my.app/h --model m -q"
    ran = run("--server", fake.url, *words.split(), "--prompt", "a cat", *more.split())
    assert (ran.code, ran.out) == (0, f"{JOB}\n")
    _, headers, body = fake.asked[0]
    assert body == {
        "account": "main",
        "model": "m",
        "input": {
            "prompt": "a cat",
            "image_url": "https://i.example/1.png",
            "duration": 10,
            "extra": {"a": 1, "b": "x"},
        },
        "external_task_id": "order-991",
        "callback_url": "https://my.app/h",
        "metadata": {"order": "991"},
        "deadline": 3600,
    }
    assert len(headers["idempotency-key"]) >= 24


def test_submit_reads_stdin_and_takes_a_key(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    run("--server", fake.url, "submit", "--input", "-", "--idempotency-key", "mine", stdin='{"prompt": "p"}')
    _, headers, body = fake.asked[0]
    assert (headers["idempotency-key"], body) == ("mine", {"input": {"prompt": "p"}})


@pytest.mark.parametrize(
    ("last", "wait", "code", "words"),
    [
        (job(), ("--wait",), 0, "told by push (2 pushes, 1 poll)"),
        (job(resolved_by="poll"), ("--wait", "20"), 0, "a poll caught it (2 pushes, 1 poll)"),
        (job("failed", error={"code": "vendor_failed", "message": "no"}), ("--wait=20",), 6, "vendor_failed: no"),
        (job("expired", resolved_by="clock"), ("--wait", "20"), 6, "expired"),
        (job("canceled", resolved_by="operator"), ("--wait", "20"), 6, "canceled"),
        (job("processing"), ("--wait", "1"), 7, "it keeps running"),
    ],
)
def test_waiting_ends_as_the_job_ends(
    fake: Fake, last: dict[str, Any], wait: tuple[str, ...], code: int, words: str
) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("processing")), (304, None), (200, last))
    fake.script(
        f"GET /v1/jobs/{JOB}/timeline", (200, page(*({"id": "1", "kind": k} for k in ("push", "poll", "push"))))
    )
    ran = run("--server", fake.url, "submit", "--prompt", "p", *wait)
    assert ran.code == code, ran.err
    assert words in ran.out + ran.err
    assert fake.asked[1][1]["prefer"].startswith("wait=")


def test_waiting_with_json_ends_with_the_one_document_even_when_the_job_failed(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("failed", error={"code": "vendor_failed"})))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    ran = run("--server", fake.url, "submit", "--prompt", "p", "--wait", "--json")
    assert ran.code == 6
    assert json.loads(ran.out)["status"] == "failed"


def authorization(fake: Fake, *words: str) -> str:
    fake.script("GET /v1/accounts", (200, page()))
    assert run(*words, "accounts", "ls").code == 0
    return fake.asked[-1][1].get("authorization", "")


def test_the_nearest_credential_wins(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv("ORCHESTRATOR_PORT", port)
    assert authorization(fake) == ""
    Path("orchestrator.db.keys").write_text("a secret key\n")
    assert authorization(fake).startswith("Bearer orc_pass.")
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
    assert authorization(fake) == f"Bearer {KEY}"
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY + "1")
    assert authorization(fake) == f"Bearer {KEY}1"
    assert authorization(fake, "--api-key", KEY + "2") == f"Bearer {KEY}2"


def test_what_this_machine_knows_is_not_sent_to_another(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.0.0.0 reaches this machine without being its loopback: as good as a stranger."""
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
    assert authorization(fake, "--server", fake.url.replace("127.0.0.1", "0.0.0.0")) == ""
    assert authorization(fake, "--server", fake.url) == f"Bearer {KEY}"


def test_a_server_and_a_key_need_no_configuration(fake: Fake) -> None:
    Path("orchestrator.toml").write_text("prt = 1\n")
    assert authorization(fake, "--server", fake.url, "--api-key", KEY) == f"Bearer {KEY}"
    ran = run("accounts", "ls")
    assert ran.code == 1
    assert "did you mean port?" in ran.err


def test_a_subscribers_secret_is_shown_when_it_is_made(fake: Fake) -> None:
    made = {
        "id": "sub_1",
        "kind": "webhook",
        "status": "active",
        "types": ["job.*"],
        "url": "https://u",
        "secret": SECRET,
    }
    fake.script("POST /v1/subscribers", (201, made))
    ran = run("--server", fake.url, "subscribers", "add", "https://u", "--types", "job.failed, job.succeeded")
    assert SECRET in ran.out
    assert fake.asked[0][2] == {"kind": "webhook", "url": "https://u", "types": ["job.failed", "job.succeeded"]}


def test_a_signature_made_here_is_good_everywhere_and_the_other_way_round() -> None:
    Path("body.json").write_bytes(b'{"a": 1}')
    signed = run("signature", "sign", "--secret", SECRET, "--file", "body.json", "--json")
    headers = json.loads(signed.out)
    assert standardwebhooks.Webhook(SECRET).verify(b'{"a": 1}', headers) == {"a": 1}
    said = [f"--{name}={headers[f'webhook-{name}']}" for name in ("id", "timestamp", "signature")]
    assert run("signature", "verify", "--secret", SECRET, "--file", "body.json", *said).code == 0
    Path("body.json").write_bytes(b'{"a": 2}')
    ran = run("signature", "verify", "--secret", SECRET, "--file", "body.json", *said)
    assert ran.code == 1
    assert "no signature matches" in ran.err


def test_a_first_configuration_is_complete_private_and_never_overwritten() -> None:
    assert run("config", "init").code == 0
    assert stat.S_IMODE(Path("orchestrator.toml").stat().st_mode) == 0o600
    assert run("config", "check").code == 0
    before = Path("orchestrator.toml").read_bytes()
    assert run("config", "init").code == 5
    assert Path("orchestrator.toml").read_bytes() == before
    shown = json.loads(run("config", "show", "--json").out)
    assert shown["secret_keys"] == {"value": ["***"], "origin": "orchestrator.toml"}
    assert shown["port"] == {"value": 8080, "origin": "default"}


def test_check_finds_what_only_the_vendor_can_know() -> None:
    Path("orchestrator.toml").write_text('[accounts.a]\nvendor = "nope"\n[accounts.b]\nvendor = "dreamto"\n')
    ran = run("config", "check")
    assert ran.code == 1
    assert "accounts.a.vendor" in ran.err
    assert "accounts.b." in ran.err


def test_the_first_key_is_made_before_any_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    made = run("keys", "create", "--name", "ci", "--scope", "write", "--expires", "90d")
    assert made.code == 0
    secret = made.out.strip()
    assert re.fullmatch(r"orc_[\w-]{43}", secret)
    listed = json.loads(run("keys", "ls", "--json").out)
    assert [(one["name"], one["scope"]) for one in listed["data"]] == [("ci", "write")]
    assert secret not in json.dumps(listed)


def test_a_key_for_a_named_server_is_not_made_elsewhere() -> None:
    ran = run("keys", "create", "--name", "ci", "--server", "http://127.0.0.1:1")
    assert ran.code == 8
    assert not Path("orchestrator.db").exists()


def test_the_callback_secret_is_the_same_with_and_without_a_server(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", "one long random text")
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    assert run("secrets", "callback").out.startswith("whsec_")
    fake.script("GET /v1/signing-key", (200, {"object": "signing_key", "secret": SECRET}))
    assert run("--server", fake.url, "secrets", "callback").out == f"{SECRET}\n"


def test_version_is_the_packages_own() -> None:
    document = json.loads(run("version", "--json").out)
    assert re.fullmatch(r"\d+\.\d+\.\d+", document["version"])
