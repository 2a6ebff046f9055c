"""Units of work, and how a group of them becomes one transaction.

A unit that fails takes only itself down: each call runs in a savepoint, and a batch that fails is tried again item by
item. When the commit itself fails, everybody in it hears so and nothing was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from orchestrator.foundation.errors import Unavailable

Tx = sa.Connection

#: Units that may wait. Beyond this the database is not keeping up, and saying so beats growing.
BACKLOG = 8192
#: Of PostgreSQL: what the server takes back and would do the next time. Serialization, deadlock, a transaction that
#: stood still for too long, a restart.
_TAKEN_BACK = ("40001", "40P01", "25P03", "57P01", "57P02", "57P03")
#: What was ended because it took too long, by the server or by us. Who waits for it has waited enough.
_TOO_LONG = "57014"
#: Classes of its trouble with itself: connections, resources, an operator's hand, the system, a standby.
_AWAY = ("08", "25006", "53", "57", "58")


@dataclass(slots=True, eq=False)
class Unit:
    """One piece of work: a call, or one item of a batch (`item`), and who waits for it.

    A loss of power may take back what is not `lasting`; the end of a process may not.
    """

    run: Callable[..., Any]
    args: tuple[Any, ...]
    future: asyncio.Future[Any]
    item: bool = False
    lasting: bool = True


class UnitResult(NamedTuple):
    """What a unit came to."""

    unit: Unit
    value: Any = None
    error: BaseException | None = None


def perform(tx: Tx, group: Sequence[Unit]) -> list[UnitResult]:
    """Run units in a transaction that their caller commits. Raises when nothing of it can be committed."""
    return [
        outcome
        for units in _gathered(group)
        for outcome in _attempt(tx, units, alone=len(units) == len(group))
    ]


def settle(outcomes: Sequence[UnitResult]) -> None:
    """Tell those who wait. On their loop."""
    for outcome in outcomes:
        future = outcome.unit.future
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)
            # Nobody may be waiting any more; an exception nobody fetched is not worth a warning.
            future.exception()


def _gathered(group: Sequence[Unit]) -> list[list[Unit]]:
    """Return the calls to make: items of the same batch together, where the first of them stood."""
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


def _attempt(tx: Tx, units: list[Unit], *, alone: bool) -> list[UnitResult]:
    """Make one call for these units, in a savepoint unless it is all there is to commit."""
    first = units[0]
    if alone and not first.item:
        return [UnitResult(first, first.run(tx, *first.args))]
    try:
        with tx.begin_nested():
            values: Sequence[Any]
            values = (
                first.run(tx, [unit.args[0] for unit in units])
                if first.item
                else [first.run(tx, *first.args)]
            )
            # In the savepoint: what a batch with too few answers wrote must not stay.
            return [UnitResult(unit, value) for unit, value in zip(units, values, strict=True)]
    except Exception as error:
        if transient(error) or _state(error) == _TOO_LONG:
            raise
        if not is_open(tx):
            # The neighbours' work is gone too, and without a transaction a savepoint would commit by itself.
            raise Unavailable("the database gave the transaction up; is the disk full?") from error
        if len(units) > 1:
            return [outcome for unit in units for outcome in _attempt(tx, [unit], alone=False)]
        return [UnitResult(first, error=ours(error))]


def is_open(tx: Tx) -> bool:
    """False once SQLite has rolled a transaction back by itself, savepoints and all, as it may when the disk is full.

    https://sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
    """
    return bool(getattr(tx.connection.driver_connection, "in_transaction", True))


def transient(error: BaseException) -> bool:
    """True for trouble that is over when a transaction is run again: a deadlock, a lost connection."""
    if not isinstance(error, DBAPIError) or _state(error) == _TOO_LONG:
        return False
    return error.connection_invalidated or _state(error) in _TAKEN_BACK


def _state(error: BaseException) -> str:
    """Return PostgreSQL's code of what went wrong; empty if it gave none."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise database trouble as `Unavailable`."""
    try:
        yield
    except DBAPIError as error:
        raise ours(error) from error


def _away(error: DBAPIError) -> bool:
    """True if the database cannot do what it is asked, whatever that is: gone, full, or read-only after a failover."""
    return (
        isinstance(error, OperationalError | InterfaceError)
        or _state(error).startswith(_AWAY)
        or transient(error)
    )


def ours(error: BaseException) -> BaseException:
    """Return database trouble (full disk, lost connection) as `Unavailable`; anything else stays what it is."""
    if isinstance(error, DBAPIError) and _away(error):
        return Unavailable(f"the database is not available: {error.orig}")
    if isinstance(error, sa.exc.TimeoutError):
        return Unavailable("the database is not available: every connection is in use")
    return error
