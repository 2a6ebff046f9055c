"""Name resolution that no name can starve: single flight, bounded, cached, apart from other work.

`getaddrinfo` blocks a thread for as long as a name server is silent. The loop's own pool has a few
threads for everything, so a handful of dead names would hold up every connection, even to literal
addresses. Here each lookup has a daemon thread of its own: it delays no exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import OrderedDict
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.egress.address_policy import AddressPolicy

if TYPE_CHECKING:
    # Brokers' names are resolved without aiohttp, which is slow to import.
    from aiohttp.abc import ResolveResult

#: Seconds that a connection waits for a lookup. The lookup goes on, for the next one.
WAIT: Final = 5.0
#: Seconds for which an answer, and a failure, is used again.
TTL: Final = 10.0
NEGATIVE_TTL: Final = 5.0
#: Lookups at the same time: all; of names that did not resolve last time, or were never seen; of
#: the former alone. So names that resolve always have room (bulkheads).
_ALL: Final = 128
_UNPROVEN: Final = 112
_SUSPECT: Final = 32
#: Names that are remembered.
_NAMES: Final = 4096


class LookupTimeout(socket.gaierror):
    """The name servers did not answer in time."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The last result of a name: its addresses, or an error. `until` is of the loop's clock."""

    until: float
    addresses: tuple[str, ...] = ()
    error: OSError | None = None


class GuardedResolver:
    """Refuses a name with a forbidden address: a private next to a public one is an attack."""

    def __init__(self, policy: AddressPolicy, *, web: bool = True) -> None:
        self._policy = policy
        self._web = web
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._running: dict[str, tuple[asyncio.Task[_Answer], float]] = {}
        self._all = asyncio.Semaphore(_ALL)
        self._unproven = asyncio.Semaphore(_UNPROVEN)
        self._suspect = asyncio.Semaphore(_SUSPECT)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host, all allowed. Raises `Blocked`, `socket.gaierror`."""
        answer = await self._answer(host.lower())
        if answer.error is not None:
            # A copy: each raise adds to the traceback of what it raises.
            raise copy(answer.error)
        for address in answer.addresses:
            self._policy.check(address, port, web=self._web)
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for address in answer.addresses
        ]

    async def close(self) -> None:
        """Forget the lookups that are running."""
        for task, _ in self._running.values():
            task.cancel()

    async def _answer(self, name: str) -> _Answer:
        """Return the last answer if it is fresh, or that of a lookup, waiting up to `WAIT`."""
        now = asyncio.get_running_loop().time()
        known = self._answers.get(name)
        if known is not None and now < known.until:
            return known
        if name not in self._running:
            self._running[name] = asyncio.create_task(self._look_up(name)), now
        task, began = self._running[name]
        await asyncio.wait({task}, timeout=began + WAIT - now)
        if task.done():
            return task.result()
        error = LookupTimeout(socket.EAI_AGAIN, "the name servers do not answer")
        return self._keep(name, _Answer(now, error=error))

    async def _look_up(self, name: str) -> _Answer:
        loop = asyncio.get_running_loop()
        try:
            async with contextlib.AsyncExitStack() as room:
                known = self._answers.get(name)
                if known is not None and known.error is not None:
                    await room.enter_async_context(self._suspect)
                if known is None or known.error is not None:
                    await room.enter_async_context(self._unproven)
                await room.enter_async_context(self._all)
                found = await _in_thread(name)
        finally:
            del self._running[name]
        if isinstance(found, OSError):
            return self._keep(name, _Answer(loop.time() + NEGATIVE_TTL, error=found))
        return self._keep(name, _Answer(loop.time() + TTL, found))

    def _keep(self, name: str, answer: _Answer) -> _Answer:
        self._answers[name] = answer
        self._answers.move_to_end(name)
        if len(self._answers) > _NAMES:
            self._answers.popitem(last=False)
        return answer


async def _in_thread(name: str) -> tuple[str, ...] | OSError:
    """Return the addresses of a name, or the error, from a thread of its own."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[str, ...] | OSError] = loop.create_future()

    def settle(found: tuple[str, ...] | OSError) -> None:
        if not done.done():
            done.set_result(found)

    def run() -> None:
        found = _addresses(name)
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name="resolver", daemon=True).start()
    return await done


def _addresses(name: str) -> tuple[str, ...] | OSError:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except OSError as error:
        return error
    except UnicodeError:
        return socket.gaierror(socket.EAI_NONAME, "the name cannot be encoded")
    # A link-local address is one only with its interface.
    scoped = (f"{at[0]}%{at[3]}" if len(at) == 4 and at[3] else str(at[0]) for *_, at in found)
    return tuple(dict.fromkeys(scoped)) or socket.gaierror(socket.EAI_NONAME, "no addresses")
