"""A server that has to be left: demoted, a standby, shut down, starting, or gone.

Imported only where the driver is installed.
"""

from __future__ import annotations

from psycopg.errors import ConnectionTimeout, ReadOnlySqlTransaction
from sqlalchemy.engine import ExceptionContext

#: SQLSTATEs, or classes of them: connection errors; read only, as a demoted server is; a server
#: that shuts down, has crashed or is starting.
_LEAVE = ("08", "25006", "57P01", "57P02", "57P03")


def leave(context: ExceptionContext) -> None:
    """Discard the connection and the pool with it if the server has to be left (`handle_error`).

    The unit of work then runs again on a new connection. So does one that got no connection, unless
    the server kept silent: another try would take as long.
    """
    error = context.original_exception
    if context.connection is None:
        context.is_disconnect = not isinstance(error, ConnectionTimeout)
    elif str(getattr(error, "sqlstate", None) or "").startswith(_LEAVE):
        context.is_disconnect = True


def leave_reader(context: ExceptionContext) -> None:
    """As `leave`, for connections that are read only on any server."""
    if not isinstance(context.original_exception, ReadOnlySqlTransaction):
        leave(context)
