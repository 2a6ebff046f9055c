"""Which schema a database has, and its way to the one this code needs: numbered migrations, forward only.

All of it happens in the caller's transaction, which takes a half-made change back in both databases. PostgreSQL's
replicas may all begin at once: the first one works and the others find it done. SQLite's caller holds the file's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.database.tables import metadata
from orchestrator.foundation.errors import ConfigError

#: Where a database says which schema it has.
VERSION_TABLE = "schema_version"
#: Under this name `env.py` is handed the connection.
CONNECTION = "connection"

_FOLDER = Path(__file__).parent / "migrations"
#: An advisory lock is any number that everybody agrees on.
_LOCK = int.from_bytes(b"orchestr", "big")
#: Alembic keeps what it works on in module globals: one thread of a process at a time.
_ALEMBIC = threading.Lock()
_MIGRATE = "run `orchestrator migrate` on it"
_ELSEWHERE = "name a database of orchestrator's own in database_url"


def head(folder: Path = _FOLDER) -> str:
    """Return the revision this code needs."""
    return _history(folder)[-1]


def title(revision: str, folder: Path = _FOLDER) -> str:
    """Return a revision in words: `0001 first schema`."""
    return Path(_scripts(folder).get_revision(revision).path).stem.replace("_", " ")


def current(tx: sa.Connection) -> str | None:
    """Return the revision a database says it has; None if it does not say."""
    return MigrationContext.configure(
        tx, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()


def named(url: sa.URL) -> str:
    """Return a database's URL as people may see it: without a password, or an option that may hold one."""
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string()


def upgrade(tx: sa.Connection, folder: Path = _FOLDER) -> list[str]:
    """Bring a database to the newest revision; return those that were applied, oldest first. The caller commits.

    A SQLite database whose tables are those of the first revision is taken for one: before there were revisions, this
    program made them so. Raises `ConfigError` for a newer database, and for tables that are somebody else's.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    found = current(tx)
    if found is None and (present := _present(tx)):
        found = _adopted(tx, present, folder)
    due = _after(tx, found, folder)
    if due:
        _run(tx, due[-1], folder)
    return due


def prepare(tx: sa.Connection) -> None:
    """Make the tables of a database that has none; one that has some must have those of the newest revision.

    Raises `ConfigError`: changing a database in use is the operator's decision.
    """
    if _is_empty(tx):
        upgrade(tx)
    else:
        check(tx)


def fits(tx: sa.Connection) -> None:
    """Raise `ConfigError` if `prepare` would. Nothing is changed."""
    if not _is_empty(tx):
        check(tx)


def check(tx: sa.Connection, folder: Path = _FOLDER) -> None:
    """Raise `ConfigError` unless the database is at the newest revision. Nothing is changed."""
    found = current(tx)
    if found is None and (present := _present(tx)):
        _claim(tx, present, folder)
        raise ConfigError(f"{_name(tx)} was made before schemas had numbers; {_MIGRATE}")
    if due := _after(tx, found, folder):
        had = "has no tables yet" if found is None else f"has schema {found}"
        raise ConfigError(f"{_name(tx)} {had}, and this orchestrator needs {due[-1]}; {_MIGRATE}")


def _is_empty(tx: sa.Connection) -> bool:
    return current(tx) is None and not _present(tx)


def _after(tx: sa.Connection, found: str | None, folder: Path) -> list[str]:
    """Return the revisions a database lacks, oldest first. Raises `ConfigError` if its own is unknown."""
    history = _history(folder)
    if found is None:
        return history
    if found not in history:
        raise ConfigError(
            f"{_name(tx)} has schema {found}, which a newer orchestrator made; this one knows none after "
            f"{history[-1]}: upgrade orchestrator"
        )
    return history[history.index(found) + 1 :]


def _adopted(tx: sa.Connection, present: Set[str], folder: Path) -> str:
    """Write down that a database is at the first revision, and return that. Raises `ConfigError` if it is not."""
    _claim(tx, present, folder)
    first = _history(folder)[0]
    MigrationContext.configure(tx, opts={"version_table": VERSION_TABLE}).stamp(
        _scripts(folder), first
    )
    return first


def _claim(tx: sa.Connection, present: Set[str], folder: Path) -> None:
    """Raise `ConfigError` unless tables without a revision are as the first one makes them, on SQLite."""
    if tx.dialect.name != "sqlite":
        raise ConfigError(
            f"{_name(tx)} has tables ({_words(present)}) and no {VERSION_TABLE}; {_ELSEWHERE}"
        )
    scratch = sa.create_engine("sqlite://")
    with scratch.begin() as other:
        _run(other, _history(folder)[0], folder)
        names = _present(other)
        odd = {name for name in names if _shape(other, name) != _shape(tx, name)}
    scratch.dispose()
    if odd:
        raise ConfigError(
            f"{_name(tx)} has tables ({_words(present)}) and no {VERSION_TABLE}, and they are not those of the first "
            f"schema ({_words(odd)}); {_ELSEWHERE}"
        )


def _shape(tx: sa.Connection, table: str) -> object:
    """Return a SQLite table as far as it matters: its columns and indexes, in no order. None if it is not there."""
    see = sa.inspect(tx)
    if not see.has_table(table):
        return None
    columns = {(one["name"], str(one["type"]), one["nullable"]) for one in see.get_columns(table)}
    unique = {tuple(one["column_names"]) for one in see.get_unique_constraints(table)}
    indexes = {
        (
            one["name"],
            *one["column_names"],
            one["unique"],
            str(one.get("dialect_options", {}).get("sqlite_where")),
        )
        for one in see.get_indexes(table)
    }
    return columns, see.get_pk_constraint(table)["constrained_columns"], unique, indexes


def _present(tx: sa.Connection) -> Set[str]:
    """Return the tables a database has that are called like ours."""
    return metadata.tables.keys() & set(sa.inspect(tx).get_table_names())


def _run(tx: sa.Connection, revision: str, folder: Path) -> None:
    config = Config(attributes={CONNECTION: tx})
    # Percent signs mean something to what reads this.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with _ALEMBIC:
        command.upgrade(config, revision)


def _history(folder: Path) -> list[str]:
    """Return every revision, oldest first."""
    return [one.revision for one in _scripts(folder).walk_revisions()][::-1]


def _scripts(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder))


def _name(tx: sa.Connection) -> str:
    return named(tx.engine.url)


def _words(names: Set[str]) -> str:
    return ", ".join(sorted(names))
