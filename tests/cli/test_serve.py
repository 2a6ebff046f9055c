"""`orchestrator serve`: it announces its URL, answers, and ends on a signal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from orchestrator.cli.listener import bound_to, listen
from orchestrator.cli.local_url import local_url
from orchestrator.foundation.settings import Settings
from tests.harness.command_line import run
from tests.harness.fork_server import command as forked
from tests.harness.supervised import until

pytestmark = pytest.mark.long

#: A schema from before revisions.
BEFORE = Path(__file__).parents[1] / "samples" / "before_revisions.sql"
NEW = (sys.executable, "-m", "orchestrator")


def environment() -> dict[str, str]:
    ours = ("ORCHESTRATOR_", "DATABASE_URL", "PORT", "PUBLIC_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextlib.contextmanager
def served(
    folder: Path, *words: str, program: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a running service and its URL; it is terminated at the end of the block.

    By default it is forked from a process that has imported the product.
    """
    process = subprocess.Popen(
        [*(program or forked("orchestrator")), "serve", "--port", "0", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        found = re.search(r"orchestrator on (http://127\.0\.0\.1:\d+)", process.stderr.readline())
        assert found
        with httpx.Client(
            transport=httpx.HTTPTransport(retries=3, verify=False), trust_env=False
        ) as client:
            # The socket listens before the line is printed: this waits for the start.
            assert client.get(found[1] + "/readyz", timeout=30).status_code == 200
        yield process, found[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_it_admits_its_own_machine_logs_json_and_ends_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, program=NEW) as (process, url):
        # A pass goes only to the port of the same settings.
        assert run("jobs", "ls", "--server", url).code == 4
        monkeypatch.setenv("ORCHESTRATOR_PORT", url.rpartition(":")[2])
        # No key was made: a process that can read the secret keys is the operator.
        assert (tmp_path / "orchestrator.db.keys").exists()
        listed = run("jobs", "ls", "--json", "--server", url)
        assert listed.code == 0, listed.err
        assert json.loads(listed.out)["data"] == []
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with contextlib.chdir(elsewhere):
            assert run("jobs", "ls", "--server", url).code == 4
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert "Application shutdown complete" in err
    assert "Traceback" not in err
    assert {"event", "level", "ts"} <= json.loads(err.splitlines()[0]).keys()


def test_a_key_from_the_command_line_is_accepted_and_the_file_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as (_, url):
        monkeypatch.setenv("ORCHESTRATOR_PORT", url.rpartition(":")[2])
        made = json.loads(run("keys", "create", "--name", "ci", "--server", url, "--json").out)
        headers = {"authorization": f"Bearer {made['key']}"}
        answer = httpx.get(f"{url}/v1/jobs", headers=headers, trust_env=False, verify=False)
        assert answer.status_code == 200
        second = run("serve", "--port", "0")
    assert second.code == 1
    in_use = f"{tmp_path / 'orchestrator.db'} is in use by another orchestrator process"
    assert in_use in second.err
    assert "PostgreSQL" not in second.err


def test_the_host_of_all_addresses_is_reached_by_both_families_and_a_hangup_is_ignored(
    tmp_path: Path,
) -> None:
    with served(tmp_path, "--host", "::") as (process, url):
        assert process.stderr
        process.send_signal(signal.SIGHUP)
        while "SIGHUP is ignored" not in (line := process.stderr.readline()):
            assert line, "it ended"
        for host in ("127.0.0.1", "[::1]"):
            answer = httpx.get(
                url.replace("127.0.0.1", host) + "/healthz", trust_env=False, verify=False
            )
            assert answer.status_code == 200


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """A full disk, and a pipe that nobody reads: lines are lost, and counted."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    with (
        open("/dev/full", "w") as full,
        os.fdopen(writer, "w") as stuck,
        os.fdopen(reader),
        httpx.Client(timeout=30, trust_env=False, verify=False) as http,
    ):
        for stderr in (full, stuck):
            process = subprocess.Popen(
                [*forked("orchestrator"), "serve", "--port", port],
                cwd=tmp_path,
                env=environment(),
                stderr=stderr,
            )
            try:
                answer = until(
                    lambda: answered(http, f"http://127.0.0.1:{port}/metrics"), "it answers"
                )
                counted = re.search(r"^orchestrator_log_lines_dropped_total (\S+)", answer, re.M)
                assert counted
                assert (float(counted[1]) > 0) is (stderr is full)
                process.terminate()
                assert process.wait(timeout=30) == 0
            finally:
                process.kill()


def answered(http: httpx.Client, url: str) -> str:
    with contextlib.suppress(httpx.TransportError):
        return http.get(url).text
    return ""


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost", "0.0.0.0", "::ffff:127.0.0.1"])
def test_what_is_announced_is_where_it_listens(host: str) -> None:
    settings = Settings(host=host, port=0)
    with listen(settings) as listening:
        url = urlsplit(local_url(bound_to(settings, listening)))
        assert url.hostname
        assert url.port
        socket.create_connection((url.hostname, url.port), timeout=30).close()


def test_a_second_ctrl_c_ends_at_once_with_one_line(tmp_path: Path) -> None:
    key = "orc_" + "k" * 32
    (tmp_path / "orchestrator.toml").write_text(f'api_keys = ["{key}"]\n')
    with served(tmp_path) as (process, url):
        assert process.stderr
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as hanging:
            head = (
                "POST /v1/jobs HTTP/1.1",
                f"host: {host}",
                f"authorization: Bearer {key}",
                "content-length: 9",
                "content-type: application/json",
                "expect: 100-continue",
            )
            hanging.sendall("\r\n".join((*head, "", "")).encode())
            assert b"100 Continue" in hanging.recv(4096), "the request is being read"
            process.send_signal(signal.SIGINT)
            while "Shutting down" not in (line := process.stderr.readline()):
                assert line, "the first Ctrl-C ended it"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    last = "stopped at once; work in progress is taken up again when its lease ends"
    assert [line for line in err.splitlines() if line and not line.startswith("{")] == [last]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u@127.0.0.1:1/d", "the server must be up"),
        ("sqlite:///nodir/x.db", "nodir is not there"),
    ],
)
def test_an_unusable_database_is_an_error_before_anything_is_created(
    tmp_path: Path, url: str, words: str
) -> None:
    refused = run("serve", "--port", "0", "--database-url", url)
    assert refused.code == 1
    assert words in refused.err
    assert ".keys" not in refused.err
    assert "secret_keys" not in refused.err
    assert list(tmp_path.iterdir()) == []


def test_an_old_schema_is_left_alone_with_a_hint_to_migrate(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "orchestrator.db")) as older:
        older.executescript(BEFORE.read_text(encoding="utf-8"))
    for words in (["serve", "--port", "0"], ["config", "check"]):
        refused = run(*words)
        assert refused.code == 1
        assert "run `orchestrator migrate`" in refused.err
    assert run("migrate").code == 0
    with served(tmp_path) as (_, url):
        assert httpx.get(url + "/readyz", verify=False).status_code == 200


def test_a_taken_port_is_an_error_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run("serve", "--port", port)
    assert refused.code == 1
    assert f"port {port}" in refused.err
    assert "--port names another" in refused.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prt = 1\n", "did you mean port?"),
        ('[accounts.a]\nvendor = "nope"\n', "known vendors"),
        ("= 1\n", "line 1"),
    ],
)
def test_invalid_settings_start_nothing(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "orchestrator.toml").write_text(text)
    refused = run("serve", "--port", "0")
    assert refused.code == 1
    assert words in refused.err
    assert not (tmp_path / "orchestrator.db").exists()
