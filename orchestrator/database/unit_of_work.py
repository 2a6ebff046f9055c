"""Units of work, and group commit: how a group of units becomes one transaction.

A unit that fails affects only itself: each call runs in a savepoint, and a batch that fails is run
again item by item. If the commit fails, every unit in it fails and nothing was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError

from orchestrator.foundation.errors import Unavailable

Tx = sa.Connection

#: Units that may wait. Beyond this the database is not keeping up, and a unit is refused.
BACKLOG = 8192
#: SQLSTATEs after which a transaction may be run again: serialization failure, deadlock, an idle
#: transaction ended by the server, a restart.
_RETRYABLE = ("40001", "40P01", "25P03", "57P01", "57P02", "57P03")
#: The SQLSTATE of a statement that took too long for the server or for us. It is not run again.
_CANCELED = "57014"
#: SQLSTATE classes of an outage: connections, resources, operator intervention, system, standby.
_OUTAGES = ("08", "25006", "53", "57", "58")


@dataclass(slots=True, eq=False)
class Unit:
    """A call, or one item of a batch (`item`), and the future of its result.

    A unit that is not `durable` survives the end of the process, but not a loss of power.
    """

    run: Callable[..., Any]
    args: tuple[Any, ...]
    future: asyncio.Future[Any]
    item: bool = False
    durable: bool = True


class UnitResult(NamedTuple):
    """The value or the error of a unit."""

    unit: Unit
    value: Any = None
    error: BaseException | None = None


def execute(tx: Tx, group: Sequence[Unit]) -> list[UnitResult]:
    """Run units in a transaction that the caller commits. Raises if none of it can be committed."""
    return [
        result
        for units in _calls(group)
        for result in _call(tx, units, alone=len(units) == len(group))
    ]


def resolve(results: Sequence[UnitResult]) -> None:
    """Resolve the futures of units, on their loop."""
    for result in results:
        future = result.unit.future
        if future.done():
            continue
        if result.error is None:
            future.set_result(result.value)
        else:
            future.set_exception(result.error)
            # A waiter may be cancelled: asyncio would warn of an exception never retrieved.
            future.exception()


def resolve_threadsafe(results: Sequence[UnitResult]) -> None:
    """Resolve the futures of units, on their loop, from any thread."""
    if not results:
        return
    loop = results[0].unit.future.get_loop()
    # The loop may be closed, and its waiters gone; the commit stands.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(resolve, results)


def _calls(group: Sequence[Unit]) -> list[list[Unit]]:
    """Return the calls: items of the same batch together, in the place of the first."""
    batches: dict[Callable[..., Any], list[Unit]] = {}
    calls: list[list[Unit]] = []
    for unit in group:
        if unit.item and unit.run in batches:
            batches[unit.run].append(unit)
            continue
        calls.append([unit])
        if unit.item:
            batches[unit.run] = calls[-1]
    return calls


def call(tx: Tx, units: Sequence[Unit]) -> list[UnitResult]:
    """Make one call for a unit, or for items of a batch. Raises what it raises.

    A batch that returned too few values raises too, so that its writes are rolled back.
    """
    first = units[0]
    if not first.item:
        return [UnitResult(first, first.run(tx, *first.args))]
    values: Sequence[Any] = first.run(tx, [unit.args[0] for unit in units])
    return [UnitResult(unit, value) for unit, value in zip(units, values, strict=True)]


def _call(tx: Tx, units: list[Unit], *, alone: bool) -> list[UnitResult]:
    """Make one call for these units, in a savepoint unless one is the whole transaction."""
    first = units[0]
    if alone and len(units) == 1:
        return call(tx, units)
    try:
        with tx.begin_nested():
            return call(tx, units)
    except Exception as error:
        if transient(error) or _sqlstate(error) == _CANCELED:
            raise
        if not in_transaction(tx):
            # All units of the group are rolled back. A savepoint now would commit by itself.
            raise Unavailable("the database gave the transaction up; is the disk full?") from error
        if len(units) > 1:
            return [result for unit in units for result in _call(tx, [unit], alone=False)]
        return [UnitResult(first, error=as_unavailable(error))]


def in_transaction(tx: Tx) -> bool:
    """False once SQLite has rolled back the whole transaction by itself, as on a full disk.

    https://sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
    """
    return bool(getattr(tx.connection.driver_connection, "in_transaction", True))


def transient(error: BaseException) -> bool:
    """True if the transaction may succeed when run again: a deadlock, a lost connection."""
    if not isinstance(error, DBAPIError) or _sqlstate(error) == _CANCELED:
        return False
    return error.connection_invalidated or _sqlstate(error) in _RETRYABLE


def _sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error of PostgreSQL; empty for any other."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


@contextlib.contextmanager
def raising_unavailable() -> Iterator[None]:
    """Raise outages of the database as `Unavailable`."""
    try:
        yield
    except DBAPIError as error:
        raise as_unavailable(error) from error


def is_outage(error: BaseException) -> bool:
    """True if the database can run no statement: gone, full, damaged, or read-only now."""
    return isinstance(error, DBAPIError) and (
        isinstance(error, OperationalError | InterfaceError)
        # The class itself is the driver's for SQLITE_CORRUPT and SQLITE_NOTADB.
        or type(error) is DatabaseError
        or _sqlstate(error).startswith(_OUTAGES)
        or transient(error)
    )


def as_unavailable(error: BaseException) -> BaseException:
    """Return an outage (full disk, lost connection) as `Unavailable`, any other error unchanged."""
    if is_outage(error):
        words = " ".join(str(getattr(error, "orig", error)).split())
        return Unavailable(f"the database is not available: {words}")
    if isinstance(error, sa.exc.TimeoutError):
        return Unavailable("the database is not available: every connection is in use")
    return error
