"""`serve --workers` as an operator meets it, and the supervisor among processes that fail in every way."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from orchestrator.cli.failure import Failure
from orchestrator.cli.supervisor import Child, Patience, Supervisor
from orchestrator.foundation.settings import Settings

pytestmark = pytest.mark.long

T = TypeVar("T")
Service = tuple[subprocess.Popen[str], str]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Service]:
    """A supervisor with two processes that have started, and their URL."""
    # Here, so that the children below start without them.
    from tests.cli.test_serve import served
    from tests.harness import databases

    (tmp_path / "orchestrator.toml").write_text(f'secret_keys = ["{"k" * 40}"]\n')
    address = databases.url("postgresql", tmp_path)
    with served(tmp_path, "--workers", "2", "--database-url", address) as (process, url):
        started(process)
        started(process)
        yield process, url
    databases.drop(address)


def started(process: subprocess.Popen[str]) -> None:
    """Wait until one more process says that it has started."""
    assert process.stderr
    while "startup complete" not in (line := process.stderr.readline()):
        assert line, "the service ended"


def until(condition: Callable[[], T], what: str) -> T:
    ends = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < ends, f"never came true: {what}"
        time.sleep(0.01)
    return found


def below(pid: int) -> set[int]:
    """The processes that a process started, with the tracker that Python adds."""
    return {int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def about(pid: int, what: str) -> str:
    """A line of what the kernel says of a process; nothing if that is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/status").read_text().partition(f"{what}:")[2].split()[0]
    return ""


def runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be asked how it ended."""
    return about(pid, "State") not in ("", "Z", "X")


def workers(pid: int) -> set[int]:
    """The processes where Python has a handler for Ctrl-C: the tracker ignores it."""
    return {
        one for one in below(pid) if int(about(one, "SigCgt") or "0", 16) & 1 << (signal.SIGINT - 1)
    }


def gone(pids: set[int]) -> None:
    until(lambda: not any(map(runs, pids)), "all have ended")


def replaced(supervisor: int) -> int:
    """Kill a process with no warning and return the one that comes for it."""
    before = workers(supervisor)
    os.kill(min(before), signal.SIGKILL)
    return until(lambda: workers(supervisor) - before, "it is replaced").pop()


def test_a_process_that_dies_is_replaced_while_another_answers_and_all_end_in_good_order(
    pair: Service,
) -> None:
    process, url = pair
    replaced(process.pid)
    assert httpx.get(url + "/readyz", timeout=30, trust_env=False).status_code == 200
    started(process)
    every = below(process.pid)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.count("Application shutdown complete") == 2
    assert "Traceback" not in err
    gone(every)


def test_ctrl_c_in_a_terminal_which_goes_to_all_ends_them_as_it_ends_one(pair: Service) -> None:
    process, _ = pair
    os.kill(new := replaced(process.pid), signal.SIGINT)
    started(process)
    every = below(process.pid)
    assert new in every, "it was just born, and would have died of it with a traceback"
    for pid in (*every, process.pid):
        os.kill(pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    gone(every)


def test_no_process_survives_its_supervisor(pair: Service) -> None:
    process, _ = pair
    every = below(process.pid)
    process.kill()
    _, err = process.communicate(timeout=30)
    gone(every)
    assert err.count("Application shutdown complete") == 2


def test_a_file_is_served_by_one_process(tmp_path: Path) -> None:
    from tests.cli.test_serve import ran

    refused = ran(tmp_path, "serve", "--port", "0", "--workers", "2")
    assert refused.returncode == 1
    assert "SQLite serves one process" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def supervise(folder: Path, child: Child, count: int, patience: Patience) -> list[str]:
    """Run a supervisor here until a child tells it to end, and return what children wrote."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Settings(database_url=f"sqlite:///{folder / 'never.db'}")
        Supervisor(count, child, settings, listening, patience).run()
    return diary(folder)


def diary(folder: Path) -> list[str]:
    return (folder / "diary").read_text().split()


def sign(settings: Settings) -> Path:
    """Write this process into the diary that all share, and return its folder."""
    assert settings.database_file
    folder = settings.database_file.parent
    with (folder / "diary").open("a") as lines:
        lines.write(f"{os.getpid()}\n")
    return folder


def fails(settings: Settings, _: socket.socket) -> None:
    sign(settings)
    raise SystemExit(1)


def flaps(settings: Settings, _: socket.socket) -> None:
    """All but the first fail at once; the first ends when four have, and seven are enough."""
    folder = sign(settings)
    if diary(folder)[0] == str(os.getpid()):
        until(lambda: len(diary(folder)) > 4, "four have failed")
    if len(diary(folder)) >= 7:
        os.kill(os.getppid(), signal.SIGTERM)


def lingers(settings: Settings, _: socket.socket) -> None:
    """Ends at nothing less than SIGKILL; where the operator is in a hurry, SIGTERM is answered with Ctrl-C."""
    hurry = (sign(settings) / "hurry").exists()
    signal.signal(
        signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT) if hurry else None
    )
    os.kill(os.getppid(), signal.SIGTERM)
    while True:
        signal.pause()


def test_a_service_that_never_starts_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="did not start"):
        supervise(tmp_path, fails, 3, Patience(start=60))
    assert len(diary(tmp_path)) == 3


def test_processes_that_flap_end_neither_one_that_runs_nor_a_service_that_once_ran(
    tmp_path: Path,
) -> None:
    """Not even one that is young; and the database may be away for longer than any count of tries."""
    assert len(supervise(tmp_path, flaps, 2, Patience(start=4, pause=0.05))) >= 7


def test_a_process_that_does_not_end_is_killed(tmp_path: Path) -> None:
    (pid,) = supervise(tmp_path, lingers, 1, Patience(end=0.3))
    assert not runs(int(pid))


def test_ctrl_c_while_it_ends_kills(tmp_path: Path) -> None:
    (tmp_path / "hurry").touch()
    with pytest.raises(KeyboardInterrupt):
        supervise(tmp_path, lingers, 1, Patience(end=600))
    assert not runs(int(diary(tmp_path)[0]))


def test_a_machine_without_room_for_a_process_is_asked_again_after_a_pause() -> None:
    resource_tracker.ensure_running()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as after:
        after.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        for_signals = os.dup(0), os.dup(0)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, before[1])
        )
        with contextlib.suppress(OSError):
            while True:
                after.callback(os.close, os.dup(0))
        for descriptor in for_signals:
            os.close(descriptor)
        with pytest.raises(Failure, match="did not start"):
            Supervisor(1, fails, Settings(), listening, Patience(pause=0.2)).run()
    assert time.monotonic() - began >= 0.4
