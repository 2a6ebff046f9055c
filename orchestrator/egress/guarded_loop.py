"""An event loop whose sockets connect only where the address policy allows it.

Libraries of brokers open sockets themselves, also to hosts that a broker names (cluster members,
advertised listeners, redirections). They all connect through these methods of their loop.
"""

from __future__ import annotations

import asyncio
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.resolver import GuardedResolver
from orchestrator.foundation.errors import Blocked

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


@dataclass(slots=True)
class Reach:
    """What the policy answered to the connections of one piece of work, whoever made them."""

    allowed: int = 0
    blocked: Blocked | None = None


#: Set by a caller that asks; tasks that its work starts share it.
reach: ContextVar[Reach | None] = ContextVar("reach", default=None)


class GuardedLoop(asyncio.SelectorEventLoop):
    """Connects streams to internet addresses that the policy allows, and does nothing else.

    What it refuses raises `Blocked`.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        super().__init__()
        self._policy = policy
        self._resolver = GuardedResolver(policy, web=False)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, Any, int, str, Any]]:
        """Return the stream addresses of a host, all allowed."""
        name = host.decode("ascii") if isinstance(host, bytes) else host
        if not name:
            raise _noted(Blocked("an address without a host"))
        try:
            found = await self._resolver.resolve(name, int(port or 0))
        except Blocked as error:
            raise _noted(error) from None
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        entries = [(one["family"], *stream, (one["host"], one["port"])) for one in found]
        entries = [entry for entry in entries if family in (0, entry[0])]
        if not entries:
            raise socket.gaierror(socket.EAI_NONAME, "no addresses of this family")
        return entries

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket, if the policy allows the address. All connections come by here."""
        if sock.family not in _INTERNET or sock.type != socket.SOCK_STREAM:
            raise _noted(Blocked("only TCP connections are made"))
        try:
            self._policy.check(str(address[0]), int(address[1]), web=False)
        except Blocked as error:
            raise _noted(error) from None
        if (noted := reach.get()) is not None:
            noted.allowed += 1
        await super().sock_connect(sock, address)

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse a socket that is given: it may be connected to any address."""
        if kwargs.get("sock") is not None:
            _refuse()
        return await super().create_connection(*args, **kwargs)

    # The names of asyncio.
    async def create_unix_connection(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def create_server(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def create_unix_server(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def connect_accepted_socket(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def subprocess_exec(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def subprocess_shell(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def connect_read_pipe(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def connect_write_pipe(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def sock_sendto(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()


def _noted(error: Blocked) -> Blocked:
    """Note a refusal: a library may replace the error."""
    if (noted := reach.get()) is not None:
        noted.blocked = error
    return error


def _refuse() -> NoReturn:
    raise _noted(Blocked("only TCP connections to hosts are made"))
