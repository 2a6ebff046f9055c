"""State in one line what `make test` leaves to `make test-brokers`, and what that needs."""

from __future__ import annotations

from tests.brokers.servers import load

if __name__ == "__main__":
    needed = [f"{kind} (needs {server.needs})" for kind, server in load().items() if server.needs]
    line = "left to `make test-brokers`: every broker killed under load"
    print(", ".join([line, *needed]))
