"""One state of a SQLite file, read beside the service that goes on writing to it.

The connection is opened read-only: so it never checkpoints, which the service alone may do (see
`database/store`). Its read transaction keeps one state, and the log grows until it ends.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from orchestrator.database.sqlite.engine import DRIVER
from orchestrator.foundation.errors import ConfigError


@contextlib.contextmanager
def snapshot(file: Path) -> Iterator[sa.Connection]:
    """Yield a connection that reads the present state of a file, whatever is written meanwhile.

    Raises `ConfigError` if the file is missing, cannot be read or is no database.
    """
    if not file.is_file():
        raise ConfigError(f"{file} is not there, or no file; name an existing database")
    engine = sa.create_engine(
        sa.URL.create(DRIVER, database=str(file)),
        creator=lambda: sqlite3.connect(
            f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None
        ),
        poolclass=sa.pool.StaticPool,
    )
    try:
        with engine.connect() as connection:
            # The transaction begins with the first statement that reads.
            connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1")
            yield connection
    except (sqlite3.DatabaseError, sa.exc.DatabaseError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'orig', error)}") from error
    finally:
        engine.dispose()


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return the driver's connection."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
