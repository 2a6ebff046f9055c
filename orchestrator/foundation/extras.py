"""Extras of the distribution. A plain install has the client and the commands for a remote server.

`pip install 'orchestrator[server]'` adds the service, which runs on POSIX systems only.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from orchestrator.foundation.errors import OrchestratorError

#: Libraries of the service, by the name under which they are imported.
#: `fcntl` stands for POSIX: Windows has none.
SERVER: Final = (
    "fcntl",
    "aiohttp",
    "alembic",
    "apscheduler",
    "brotli",
    "cryptography",
    "httptools",
    "itsdangerous",
    "jinja2",
    "jwt",
    "prometheus_client",
    "python_multipart",
    "sqlalchemy",
    "sqlmodel",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
    "yarl",
)
EXTRAS: Final = {
    "server": SERVER,
    "demo": (*SERVER, "standardwebhooks"),
    # Kinds of subscribers, each with its client.
    "apprise": (*SERVER, "apprise"),
    "email": (*SERVER, "aiosmtplib"),
    "kafka": (*SERVER, "aiokafka"),
    "nats": (*SERVER, "nats"),
    "rabbitmq": (*SERVER, "aio_pika"),
    "redis": (*SERVER, "redis"),
}
_POSIX = (
    "the service needs a POSIX system (Linux, macOS or WSL);"
    " on Windows, the client and the commands for a remote server work"
)


class MissingExtra(OrchestratorError, ImportError):
    """This part is not installed, or does not run on this system. The message says what to do."""


def missing(library: str, extra: str = "") -> MissingExtra | None:
    """Return the error for a library that cannot be imported; None if no extra brings it."""
    extra = extra or next((name for name, brings in EXTRAS.items() if library in brings), "")
    if not extra:
        return None
    if find_spec("fcntl") is None:
        return MissingExtra(_POSIX)
    return MissingExtra(
        f"this part needs the extra `{extra}` ({library} is missing):"
        f" pip install 'orchestrator[{extra}]'"
    )


def is_installed(extra: str) -> bool:
    """Return whether all libraries of an extra are there."""
    return all(find_spec(library) is not None for library in EXTRAS[extra])


def require(extra: str) -> None:
    """Raise `MissingExtra` if a library of an extra is missing; on Windows, always."""
    for library in EXTRAS[extra]:
        if find_spec(library) is None and (error := missing(library, extra)):
            raise error
