"""What most tests of the engine stand on."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.harness import databases
from tests.harness.runtime import Harness, open_harness

# The same examples on every run, and none of them too slow for a busy machine.
settings.register_profile("steady", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Hear Ctrl-C, and let the processes that tests start hear it: what a shell runs in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


#: Workers at most: each has a PostgreSQL server of its own.
_WORKERS = 8


def pytest_xdist_auto_num_workers() -> int:
    """Have twice as many workers as there are cores: half of what tests do is to wait for others."""
    return min(2 * len(os.sched_getaffinity(0)), _WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every worker begin with a share of the long ones, and end with what others can take from it.

    At first each is given one run of the items, in order; the runs differ by one at most, and grow.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    shares, left = [long[n::workers] for n in range(workers)], len(items)
    for n, share in enumerate(shares):
        size = left // (workers - n)
        left -= size
        room = max(0, size - len(share))
        share += rest[:room]
        del rest[:room]
    items[:] = [*(item for share in shares for item in share), *rest]


@pytest.fixture(params=databases.KINDS)
def everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On each kind of database in turn, for tests that open houses or whole services of their own."""
    monkeypatch.setattr(databases, "kind", request.param)
    yield
    databases.forget()


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new database, of each kind in turn."""
    address = databases.url(request.param, tmp_path)
    yield address
    databases.drop(address)


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    """A house with one `agentsflare` account called `main`, its loops at rest."""
    async with open_harness(tmp_path, database_url=database) as opened:
        yield opened
