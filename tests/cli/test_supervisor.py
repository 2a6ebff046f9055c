"""`serve --workers`, and the supervisor with processes that fail in every way."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

import orchestrator
from orchestrator.cli.failure import Failure
from orchestrator.cli.supervisor import Supervisor, Timing
from orchestrator.foundation.settings import Settings
from tests.cli.test_serve import served
from tests.foundation.test_metrics import read, total
from tests.harness import databases, supervised
from tests.harness.command_line import run
from tests.harness.fork_server import ROOT, pid_of
from tests.harness.supervised import diary, fails, flaps, lingers, supervise, until

pytestmark = pytest.mark.long

#: A client of the fork server, the pid of its supervisor, and the URL.
Service = tuple[subprocess.Popen[str], int, str]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A supervisor with two started processes, and their URL."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "orchestrator.toml").write_text(f'secret_keys = ["{"k" * 40}"]\n')
    address = databases.url("postgresql", tmp_path)
    options = ("--workers", "2", "--database-url", address)
    with served(tmp_path, *options) as (process, url):
        started(process)
        started(process)
        yield process, pid_of(process.pid), url
    databases.drop(address)


def started(process: subprocess.Popen[str]) -> None:
    """Wait until one more process has started."""
    assert process.stderr
    while "startup complete" not in (line := process.stderr.readline()):
        assert line, "the service ended"


def below(pid: int) -> set[int]:
    """Return the children of a process, Python's resource tracker among them."""
    return {int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def about(pid: int, what: str) -> str:
    """Return a field of a process's status in /proc; empty if the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/status").read_text().partition(f"{what}:")[2].split()[0]
    return ""


def runs(pid: int) -> bool:
    """True if a process runs and is no zombie."""
    return about(pid, "State") not in ("", "Z", "X")


def workers(pid: int) -> set[int]:
    """Return the children that handle Ctrl-C: the tracker ignores it."""
    return {
        child
        for child in below(pid)
        if int(about(child, "SigCgt") or "0", 16) & 1 << (signal.SIGINT - 1)
    }


def gone(pids: set[int]) -> None:
    until(lambda: not any(map(runs, pids)), "all have ended")


def replaced(supervisor: int) -> int:
    """Kill a process and return its replacement."""
    before = workers(supervisor)
    os.kill(min(before), signal.SIGKILL)
    return until(lambda: workers(supervisor) - before, "it is replaced").pop()


def get(url: str, path: str) -> str:
    """Send a request over a new connection, which reaches any of the processes."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == http.HTTPStatus.OK
        return answer.read().decode()


def healthy(url: str) -> float:
    """Return how many health checks a process has counted."""
    return total(read(get(url, "/metrics")), "http_requests_total", route="/healthz")


def test_a_dead_process_is_replaced_while_another_answers_and_all_end_in_order(
    pair: Service, tmp_path: Path
) -> None:
    """Any process reports the metrics of all, and their counters never fall."""
    process, supervisor, url = pair
    for pid in (supervisor, *workers(supervisor)):
        os.kill(pid, signal.SIGHUP)
    for _ in range(30):
        get(url, "/healthz")
    seen = [healthy(url) for _ in range(10)]
    assert seen == [30] * 10, "whichever process answers"
    os.kill(new := replaced(supervisor), signal.SIGINT)
    get(url, "/readyz")
    started(process)
    every = below(supervisor)
    assert new in every, "a new process would have died of it with a traceback"
    again = read(get(url, "/metrics"))
    assert total(again, "http_requests_total", route="/healthz") == 30
    assert total(again, "build_info", version=orchestrator.__version__) == 1
    assert total(again, "sse_clients") == 0
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.count("Application shutdown complete") == 2
    assert "Traceback" not in err
    gone(every)
    assert not list(tmp_path.glob("orchestrator-metrics-*")), "the shared folder is removed"


def test_ctrl_c_sent_to_the_whole_group_ends_them_like_one_process(pair: Service) -> None:
    process, supervisor, _ = pair
    every = below(supervisor)
    for pid in (*every, supervisor):
        os.kill(pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    gone(every)


def test_no_process_survives_its_supervisor(tmp_path: Path) -> None:
    command = [sys.executable, "-m", supervised.__name__, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        until(lambda: len(diary(tmp_path)) == 2, "both have started")
        every = below(process.pid)
        process.kill()
    gone(every)
    assert diary(tmp_path).count("ended") == 2, "in order, as at SIGTERM"


def test_sqlite_is_served_by_one_process(tmp_path: Path) -> None:
    refused = run("serve", "--port", "0", "--workers", "2")
    assert refused.code == 2
    assert "SQLite serves one process" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_never_starts_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="did not start"):
        supervise(tmp_path, fails, 3, Timing(start=60))
    assert len(diary(tmp_path)) == 3


def test_failing_processes_stop_neither_a_running_one_nor_a_service_that_had_started(
    tmp_path: Path,
) -> None:
    """Even a young one goes on; and a database may be away for any number of attempts."""
    supervise(tmp_path, flaps, 2, Timing(start=4, pause=0.05))
    assert len(diary(tmp_path)) >= 6


def test_a_process_that_does_not_end_is_killed(tmp_path: Path) -> None:
    supervise(tmp_path, lingers, 1, Timing(end=0.3))
    (pid,) = diary(tmp_path)
    assert not runs(int(pid))


def test_ctrl_c_during_the_shutdown_kills(tmp_path: Path) -> None:
    (tmp_path / "hurry").touch()
    with pytest.raises(KeyboardInterrupt):
        supervise(tmp_path, lingers, 1, Timing(end=600))
    assert not runs(int(diary(tmp_path)[0]))


def test_a_process_that_cannot_be_started_is_retried_after_a_pause() -> None:
    resource_tracker.ensure_running()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as after:
        after.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        spare = os.dup(0), os.dup(0)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, before[1])
        )
        with contextlib.suppress(OSError):
            while True:
                after.callback(os.close, os.dup(0))
        for descriptor in spare:
            os.close(descriptor)
        with pytest.raises(Failure, match="did not start"):
            Supervisor(1, fails, Settings(), listening, Timing(pause=0.2)).run()
    assert time.monotonic() - began >= 0.4
