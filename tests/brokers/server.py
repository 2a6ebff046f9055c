"""The contract of a broker's server in tests: started, killed, restarted and read."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from orchestrator.events.destinations import Target
from tests.harness.processes import free_port


@dataclass(frozen=True)
class Received:
    """A message as a consumer of the broker gets it."""

    id: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


class BrokerServer(ABC):
    """A server with its data in `folder`, so that a restart finds what was confirmed."""

    kind: ClassVar[str]
    #: What `make test-brokers` needs to run it; empty if it comes with the packages of `.venv`.
    needs: ClassVar[str] = ""
    #: Seconds until it takes connections.
    patience: ClassVar[float] = 20.0
    #: True if the broker itself drops a message whose id it has.
    drops_repeats: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def absent(cls) -> bool:
        """Return whether its program is not on this machine."""
        return False

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the command that runs it in the foreground."""

    @abstractmethod
    async def prepare(self) -> None:
        """Create the stream, topic or queue of `target`, empty, once the server runs."""

    @abstractmethod
    def target(self, **options: str) -> Target:
        """Return where the tests publish."""

    @abstractmethod
    def refused(self) -> Target:
        """Return the same with wrong credentials."""

    def missing(self) -> Target:
        """Return a target whose stream does not exist, unless the broker creates streams."""
        raise NotImplementedError

    @abstractmethod
    async def consume(self) -> list[Received]:
        """Return all messages of the target, oldest first."""

    @abstractmethod
    def client_alone(self, body: bytes) -> contextlib.AbstractAsyncContextManager[ClientAlone]:
        """Open the client library as its own documents do, for comparison."""

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        end = time.monotonic() + self.patience
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"{self.kind} does not start:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """End it at once (SIGKILL): nothing is flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it during the block."""
        self.start()
        try:
            yield
        finally:
            self.kill()


class ClientAlone(ABC):
    """The client library of a broker without the product around it."""

    @abstractmethod
    async def publish(self, id: str) -> None:
        """Publish a message and wait until it is confirmed. Called concurrently."""


Opened = AsyncIterator[ClientAlone]
