"""State in one line what `make test` leaves to `make test-brokers`, and what that needs."""

from __future__ import annotations

from tests.brokers.servers import load

if __name__ == "__main__":
    needed = [f"{kind} ({server.needs})" for kind, server in load().items() if server.needs]
    line = "make test-brokers also kills every broker under load"
    print(f"{line}, and runs {', '.join(needed)}" if needed else line)
