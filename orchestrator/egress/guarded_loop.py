"""An event loop whose sockets connect only where the address policy allows it.

Libraries of brokers open sockets themselves, also to hosts that a broker names (cluster members,
advertised listeners, redirections). They all connect through these methods of their loop. They also
keep what a broker announces, up to gigabytes, so what arrives is bounded here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.resolver import GuardedResolver
from orchestrator.foundation.errors import Blocked

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
#: Bytes that may arrive before anything is published, and for each message: a broker answers with
#: some hundred.
ROOM: Final = 1 << 20
ROOM_OF_A_MESSAGE: Final = 16 * 1024


@dataclass(slots=True)
class Reach:
    """The connections of one piece of work: what the policy answered, and what may still arrive."""

    allowed: int = 0
    blocked: Blocked | None = None
    room: int = ROOM

    def extend(self) -> None:
        """Make room for the answer to one more message."""
        self.room = min(ROOM, self.room + ROOM_OF_A_MESSAGE)

    def received(self, count: int) -> None:
        """Count bytes that have arrived. Raises `ConnectionAbortedError` beyond the room."""
        self.room -= count
        if self.room < 0:
            raise ConnectionAbortedError("the broker sends more than answers")


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

    async def create_connection(
        self, protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Connect, and bound what arrives.

        A socket that is given is refused: it may be connected to any address.
        """
        if kwargs.get("sock") is not None:
            _refuse()
        reached = reach.get() or Reach()
        return await super().create_connection(
            lambda: _bounded(protocol_factory(), reached), *args, **kwargs
        )

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


def _bounded(protocol: Any, reached: Reach) -> asyncio.Protocol:
    """Return a protocol that counts what it receives; its error closes the connection.

    It is the same instance: a transport that turns to TLS keeps it.
    """
    if not isinstance(protocol, asyncio.Protocol):
        _refuse()
    receive = protocol.data_received

    def counted(data: bytes) -> None:
        reached.received(len(data))
        receive(data)

    protocol.data_received = counted  # type: ignore[method-assign]
    return protocol


def _noted(error: Blocked) -> Blocked:
    """Note a refusal: a library may replace the error."""
    if (noted := reach.get()) is not None:
        noted.blocked = error
    return error


def _refuse() -> NoReturn:
    raise _noted(Blocked("only TCP connections to hosts are made"))
