"""What every process that a bench starts does first: say where it listens, and end when the bench is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from orchestrator.cli.bench.raw import Answer, Door, run

_BACKLOG = 2048


def follow() -> None:
    """End this process, as SIGTERM would, when the bench closes our standard input or is no more."""
    threading.Thread(target=_outlive, daemon=True).start()


def _outlive() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def listening() -> socket.socket:
    """Listen on a free port of this machine, and tell the bench which."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    # asyncio does this only for sockets it made itself; accepted connections inherit it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sys.stdout.write(f"{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    return sock


def serve(answer: Answer) -> None:
    """Answer requests on a free port until told to end."""
    accept(lambda: Door(answer))


def accept(protocol: Callable[[], asyncio.Protocol]) -> None:
    """Take connections on a free port until told to end."""
    follow()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, sock=listening())
        async with server:
            await server.serve_forever()

    run(main())
