"""The service under measurement: `orchestrator serve` as it is, in a process of its own, seen from outside."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cli.bench.counted import Counts
from orchestrator.cli.bench.figures import Figure, Json, Limit
from orchestrator.cli.bench.load import drive
from orchestrator.cli.bench.place import Place
from orchestrator.cli.bench.processes import burden, child
from orchestrator.cli.bench.raw import request, run
from orchestrator.foundation.json_codec import encode

SECRET = "bench-" + "k" * 40
API_KEY = "orc_" + "b" * 40
#: The line of a request that says so.
AUTHORIZATION = f"authorization: Bearer {API_KEY}\r\n"
#: An account as a bench needs it: never full, and asked about nothing unless the bench wants it.
ACCOUNT: Mapping[str, Any] = {
    "vendor": "kling",
    "base_url": "http://127.0.0.1:9",
    "api_key": "k",
    "max_in_flight": 10_000,
    "poll": {"first_after": 3600, "interval": 3600, "max_interval": 3600},
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a service has used so far, or in between."""

    at: float
    cpu: float
    statements: int
    commits: int
    rss: int

    def __sub__(self, before: Usage) -> Usage:
        return Usage(
            self.at - before.at,
            self.cpu - before.cpu,
            self.statements - before.statements,
            self.commits - before.commits,
            self.rss,
        )


@dataclass(frozen=True, slots=True)
class Service:
    """One that is ready."""

    port: int
    pid: int
    counts: Counts

    def usage(self) -> Usage:
        """Return what it has used so far."""
        now = burden(self.pid)
        statements, commits = self.counts.read()
        return Usage(time.monotonic(), now.cpu, statements, commits, now.rss)


def account_names(count: int) -> list[str]:
    """Return the names of so many accounts."""
    return [f"bench-{number}" for number in range(count)]


def accounts_of(count: int, **values: Any) -> Json:
    """Return the settings of so many accounts; `values` differ from a bench's own."""
    return {name: {**ACCOUNT, **values} for name in account_names(count)}


def settings(place: Place, port: int, accounts: Json) -> Json:
    """Return what the service is configured with."""
    return {
        "database_url": place.url,
        "port": port,
        "secret_keys": [SECRET],
        "api_keys": [API_KEY],
        "api_rate_limit": 0,
        "allow_private": ["127.0.0.0/8"],
        "log_format": "json",
        "accounts": accounts,
    }


def configured(place: Place, accounts: Json) -> tuple[list[str], int]:
    """Write a configuration; return the words that serve it, and the port."""
    port = free_port()
    path = place.folder / "orchestrator.toml"
    lines = [f"{key} = {_toml(value)}" for key, value in settings(place, port, accounts).items()]
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return ["--config", str(path), "serve"], port


@contextlib.contextmanager
def service(place: Place, accounts: Json) -> Iterator[Service]:
    """Serve a place until the end of the block, then let what is under way end."""
    words, port = configured(place, accounts)
    path: Path = place.folder / "counts"
    with (
        contextlib.closing(Counts.make(path)) as counts,
        child("orchestrator.cli.bench.counted", str(path), *words, announces=False) as process,
    ):
        process.ready(port)
        yield Service(port, process.pid, counts)


def subscribe(it: Service, url: str) -> None:
    """Have a running service tell somebody of every success from now on."""
    body = encode({"kind": "webhook", "url": url, "types": ["job.succeeded"], "max_in_flight": 32})
    run(drive(it.port, [request("POST", "/v1/subscribers", body, AUTHORIZATION)], 1))


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _toml(value: object) -> str:
    """Return a value as TOML has it: JSON's, but for its objects."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f'"{key}" = {_toml(below)}' for key, below in value.items()) + " }"
    return json.dumps(value)


def costs(
    of: str, used: Sequence[tuple[Usage, int]], beside: Mapping[str, Sequence[float]]
) -> list[Figure]:
    """Return what each of so many operations took, in every round, and what the process held at the end.

    `beside` is CPU seconds an operation of what does the same and stores nothing.
    """
    cpu = [Limit(name, [1000 * one for one in rounds]) for name, rounds in beside.items()]
    return [
        Figure(f"cpu_ms_per_{of}", [1000 * use.cpu / max(count, 1) for use, count in used], cpu),
        Figure(f"statements_per_{of}", [use.statements / max(count, 1) for use, count in used]),
        Figure(f"commits_per_{of}", [use.commits / max(count, 1) for use, count in used]),
        Figure("rss_mb", [use.rss / (1 << 20) for use, _ in used]),
    ]
