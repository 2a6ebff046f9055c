"""The listening socket."""

from __future__ import annotations

import ipaddress
import socket

from orchestrator.cli.failure import Failure
from orchestrator.foundation.settings import Settings
from orchestrator.ingress.connections import limit_of

_BACKLOG = 2048


def backlog(settings: Settings) -> int:
    """Return how many connections wait to be accepted: a burst must not use up the files."""
    return max(1, min(_BACKLOG, limit_of(settings.http) // 2))


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket; `::` is all addresses of both families.

    Raises `Failure` if the address is taken or not local.
    """
    try:
        family, address = _resolve(settings.host, settings.port)
        listening = socket.create_server(
            address,
            family=family,
            backlog=backlog(settings),
            dualstack_ipv6=family == socket.AF_INET6 and _takes_ipv4(address[0]),
        )
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise Failure(
            f"cannot listen on {settings.host} port {settings.port}: {why}",
            hint="--port names another (0 picks a free one)",
        ) from error
    # asyncio sets TCP_NODELAY only on its own sockets: without it an answer in two writes waits
    # 40 ms for a delayed ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def bound_to(settings: Settings, listening: socket.socket) -> Settings:
    """Return the settings with the address that the socket is bound to."""
    host, port = listening.getsockname()[:2]
    if host == "::" and listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        host = "::1"
    return settings.model_copy(update={"host": host, "port": port})


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the family and the address of a host, IPv4 where a name has both."""
    name = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address  # type: ignore[return-value]  # an IPv6 address has two more members


def _takes_ipv4(host: str) -> bool:
    """True for an IPv6 address to which IPv4 clients can connect."""
    address = ipaddress.IPv6Address(host)
    return socket.has_dualstack_ipv6() and (
        address.is_unspecified or address.ipv4_mapped is not None
    )
