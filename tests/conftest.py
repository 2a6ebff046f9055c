"""Fixtures and pytest settings that most tests share."""

from __future__ import annotations

import gc
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest
import pytest_asyncio
from hypothesis import settings

from orchestrator.database.sqlite import writer
from orchestrator.database.sqlite.engine import wait_for_disk
from tests.harness import browser, databases, fork_server, once
from tests.harness.runtime import Harness, open_harness

if TYPE_CHECKING:
    from playwright.async_api import Browser

# The same examples on every run, without a deadline: the machine may be busy.
settings.register_profile(
    "steady", max_examples=60, deadline=None, derandomize=True, print_blob=False
)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process. Restore SIGINT: a background job of a shell ignores it.

    Collect no garbage while tests are imported: that takes a fifth of the collection.
    """
    gc.disable()
    once.share_statements()
    once.note_absent("sniffio")
    once.end_sooner()
    once.skip_syncs()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.dist != "no" and "PYTEST_XDIST_WORKER" not in os.environ:
        fork_server.share()


def pytest_collection_finish() -> None:
    """Exempt modules and tests from garbage collection: a full one takes half a second."""
    gc.freeze()
    gc.enable()


#: The most workers: each has its own PostgreSQL server.
_WORKERS = 8


def pytest_xdist_auto_num_workers() -> int:
    """Run three workers a core: most of the tests' time is waiting for other processes."""
    return min(3 * len(os.sched_getaffinity(0)), _WORKERS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every worker a share of the long tests first, and short ones at the end.

    Others can steal the short ones. pytest-xdist first gives each worker one slice of the items, in
    order; the sizes of the slices differ by at most one, and grow. Last, after deselection.
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


@pytest.fixture(scope="session", autouse=True)
def machine_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """Trust one certificate authority; the value is the variable of the machine, for downloads.

    Every HTTP client and every service loads the file. The 140 authorities of a system take 30 ms
    of CPU each time.
    """
    one, end = tmp_path_factory.mktemp("authorities") / "one.pem", "-----END CERTIFICATE-----\n"
    one.write_text(Path(certifi.where()).read_text("utf-8").partition(end)[0] + end, "utf-8")
    machine = os.environ.get("SSL_CERT_FILE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(one))
        yield machine


@pytest.fixture(params=databases.KINDS)
def everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run on each kind of database, for tests that open a runtime or a service themselves."""
    monkeypatch.setattr(databases, "kind", request.param)
    yield
    databases.forget()


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new database, of each kind."""
    address = databases.url(request.param, tmp_path)
    yield address
    databases.drop(address)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commits of SQLite wait for the disk, as in production."""
    monkeypatch.setattr(writer, "wait_for_disk", wait_for_disk)


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    """A runtime with one `agentsflare` account `main`, without workers."""
    async with open_harness(tmp_path, database_url=database) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Chromium, for tests that are marked `asyncio(loop_scope="session")`."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the npm registry has a Chromium for Linux on x86-64 alone")
    async with browser.started() as running:
        yield running
