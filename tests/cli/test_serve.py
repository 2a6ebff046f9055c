"""`serve` as an operator meets it: a process that says where it is, answers, and ends when told to."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.long

#: A schema from before schemas had numbers.
BEFORE = Path(__file__).parents[1] / "samples" / "before_revisions.sql"
COMMAND = (sys.executable, "-m", "orchestrator")


def environment() -> dict[str, str]:
    ours = ("ORCHESTRATOR_", "DATABASE_URL", "PORT", "PUBLIC_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def ran(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running service and its URL; it is told to end, if it has not ended yet."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *words],
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
        with httpx.Client(transport=httpx.HTTPTransport(retries=3), trust_env=False) as client:
            # The socket listens before the line is printed: this waits for start-up to end.
            assert client.get(found[1] + "/readyz", timeout=30).status_code == 200
        yield process, found[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_it_answers_lets_its_own_machine_in_and_ends_cleanly(tmp_path: Path) -> None:
    with served(tmp_path) as (process, url):
        # No key was ever made: whoever can read the secret keys beside the database is the operator.
        assert (tmp_path / "orchestrator.db.keys").exists()
        listed = ran(tmp_path, "jobs", "ls", "--json", "--server", url)
        assert listed.returncode == 0, listed.stderr
        assert json.loads(listed.stdout)["data"] == []
        stranger = tmp_path / "elsewhere"
        stranger.mkdir()
        assert ran(stranger, "jobs", "ls", "--server", url).returncode == 4
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert "Application shutdown complete" in err
    assert "Traceback" not in err


def test_a_key_made_on_the_command_line_opens_the_door(tmp_path: Path) -> None:
    with served(tmp_path) as (_, url):
        made: dict[str, Any] = json.loads(
            ran(tmp_path, "keys", "create", "--name", "ci", "--server", url, "--json").stdout
        )
        answer = httpx.get(
            f"{url}/v1/jobs", headers={"authorization": f"Bearer {made['key']}"}, trust_env=False
        )
        assert answer.status_code == 200


def test_logs_are_json_where_nobody_watches(tmp_path: Path) -> None:
    with served(tmp_path) as (process, _):
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert {"event", "level", "ts"} <= json.loads(err.splitlines()[0]).keys()


def test_a_second_process_on_the_same_file_is_refused_in_words(tmp_path: Path) -> None:
    with served(tmp_path):
        second = ran(tmp_path, "serve", "--port", "0")
    assert second.returncode == 1
    assert (
        f"{tmp_path / 'orchestrator.db'} is in use by another orchestrator process" in second.stderr
    )
    assert "PostgreSQL" not in second.stderr
    assert "Traceback" not in second.stderr


def test_a_second_ctrl_c_ends_at_once_in_one_line(tmp_path: Path) -> None:
    key = "orc_" + "k" * 32
    (tmp_path / "orchestrator.toml").write_text(f'api_keys = ["{key}"]\n')
    with served(tmp_path) as (process, url):
        assert process.stderr
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as hanging:
            head = f"POST /v1/jobs HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-length: 9\r\n"
            hanging.sendall(
                f"{head}content-type: application/json\r\nexpect: 100-continue\r\n\r\n".encode()
            )
            assert b"100 Continue" in hanging.recv(4096), "the request is being read"
            process.send_signal(signal.SIGINT)
            while "Shutting down" not in (line := process.stderr.readline()):
                assert line, "it ended at the first Ctrl-C"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    last = "stopped at once; what was under way comes back with its lease"
    assert [line for line in err.splitlines() if line and not line.startswith("{")] == [last]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u@127.0.0.1:1/d", "the server must be up"),
        ("sqlite:///nodir/x.db", "nodir is not there"),
    ],
)
def test_a_database_that_cannot_be_had_is_said_before_anything_is_made(
    tmp_path: Path, url: str, words: str
) -> None:
    refused = ran(tmp_path, "serve", "--port", "0", "--database-url", url)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert ".keys" not in refused.stderr
    assert "secret_keys" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_behind_is_left_alone_and_said_in_one_line(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "orchestrator.db")) as older:
        older.executescript(BEFORE.read_text(encoding="utf-8"))
    for words in (["serve", "--port", "0"], ["config", "check"]):
        refused = ran(tmp_path, *words)
        assert refused.returncode == 1
        assert "run `orchestrator migrate`" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert ran(tmp_path, "migrate").returncode == 0
    with served(tmp_path) as (_, url):
        assert httpx.get(url + "/readyz").status_code == 200


def test_a_port_that_is_taken_is_said_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = ran(tmp_path, "serve", "--port", port)
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "--port names another" in refused.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prt = 1\n", "did you mean port?"),
        ('[accounts.a]\nvendor = "nope"\n', "known vendors"),
        ("= 1\n", "line 1"),
    ],
)
def test_a_wrong_configuration_starts_nothing(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "orchestrator.toml").write_text(text)
    refused = ran(tmp_path, "serve", "--port", "0")
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "orchestrator.db").exists()
