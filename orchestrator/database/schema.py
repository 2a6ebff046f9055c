"""The schema of a database, and its migration to the one this code needs. Forward only.

A migration runs in the caller's transaction, so both databases roll a failed one back. Replicas on
PostgreSQL may start at once: an advisory lock lets the first migrate, and the others find it done.
On SQLite the caller holds the lock of the file.

The files of `migrations/versions` are named by their revisions. Alembic, slow to import, runs them
and is not needed to check a database.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from pathlib import Path

import sqlalchemy as sa

from orchestrator.database.postgres import hosts
from orchestrator.database.tables import metadata
from orchestrator.foundation.errors import ConfigError

#: Holds the revision of a database.
VERSION_TABLE = "schema_version"
#: Stands for a revision while rows of another database are moved here: no version serves it.
MOVING = "moving"
#: The attribute by which `env.py` is passed the connection.
CONNECTION = "connection"

_FOLDER = Path(__file__).parent / "migrations"
#: The number of the advisory lock.
_LOCK = int.from_bytes(b"orchestr", "big")
#: Alembic keeps its state in module globals: one thread of a process at a time.
_ALEMBIC = threading.Lock()
_VERSIONS_EXIST = sa.text(
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = :name AND pg_table_is_visible(oid))"
).bindparams(name=VERSION_TABLE)
_MIGRATE = "run `orchestrator migrate` on it"
_ELSEWHERE = "name a database of orchestrator's own in database_url"


def head(folder: Path = _FOLDER) -> str:
    """Return the revision this code needs."""
    return _history(folder)[-1]


def title(revision: str, folder: Path = _FOLDER) -> str:
    """Return the title of a revision: `0001 first schema`."""
    return next(folder.glob(f"versions/{revision}_*.py")).stem.replace("_", " ")


def current(tx: sa.Connection) -> str | None:
    """Return the revision of a database; None if it has none."""
    if not _has_versions(tx):
        return None
    return tx.scalar(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE)))


def _has_versions(tx: sa.Connection) -> bool:
    if tx.dialect.name == "postgresql":
        # One catalog, where the inspector joins several. Not `to_regclass`: the session may have
        # cached that there is none, before it waited for the lock of another's migration.
        return tx.scalar(_VERSIONS_EXIST) is True
    return sa.inspect(tx).has_table(VERSION_TABLE)


def named(url: sa.URL) -> str:
    """Return the URL of a database for display, without password and options."""
    shown = url.set(drivername=url.get_backend_name(), query={})
    if found := hosts.several(url):
        # SQLAlchemy renders one host.
        before = shown.set(host=None, port=None, database="").render_as_string()
        return f"{before.removesuffix('/')}{','.join(found)}/{url.database or ''}"
    return shown.render_as_string()


def upgrade(tx: sa.Connection, folder: Path = _FOLDER) -> list[str]:
    """Migrate a database to the newest revision, and return the applied ones, oldest first.

    The caller commits. A SQLite database without a revision whose tables are those of the first is
    adopted: this program made such tables before it had revisions. Raises `ConfigError` for a newer
    database, and for other tables of the same names.
    """
    lock(tx)
    found = current(tx)
    if found is None and (present := _present(tx)):
        found = _adopt(tx, present, folder)
    due = _after(tx, found, folder)
    if due:
        _run(tx, due[-1], folder)
    return due


def lock(tx: sa.Connection) -> None:
    """Let no other process migrate the database until the transaction ends."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def stamp(tx: sa.Connection, revision: str) -> None:
    """Replace the revision of a database."""
    versions = sa.table(VERSION_TABLE, sa.column("version_num"))
    tx.execute(sa.update(versions).values(version_num=revision))


def prepare(tx: sa.Connection) -> None:
    """Make the tables of an empty database; any other must be at the newest revision.

    Raises `ConfigError`: migrating a database in use is the operator's decision.
    """
    if current(tx) is None:
        # Tables of another replica may appear between two statements of the check.
        lock(tx)
    if check(tx, allow_empty=True) is None:
        upgrade(tx)


def check(tx: sa.Connection, folder: Path = _FOLDER, *, allow_empty: bool = False) -> str | None:
    """Return the revision of a database. Raises `ConfigError` unless it is the newest.

    With `allow_empty`, None for a database without tables. Nothing is changed.
    """
    found = current(tx)
    if found is None:
        if present := _present(tx):
            _check_first(tx, present, folder)
            raise ConfigError(f"{_name(tx)} was made before schemas had numbers; {_MIGRATE}")
        if allow_empty:
            return None
    if due := _after(tx, found, folder):
        had = "has no tables yet" if found is None else f"has schema {found}"
        raise ConfigError(f"{_name(tx)} {had}, and this orchestrator needs {due[-1]}; {_MIGRATE}")
    return found


def known(tx: sa.Connection, folder: Path = _FOLDER) -> str:
    """Return the revision of a database, the newest or an older one. Raises `ConfigError`."""
    found = current(tx)
    if found is None:
        raise ConfigError(f"{_name(tx)} is no database of orchestrator, or one without a revision")
    _after(tx, found, folder)
    return found


def _after(tx: sa.Connection, found: str | None, folder: Path) -> list[str]:
    """Return the revisions after that of a database. Raises `ConfigError` if it is unknown."""
    history = _history(folder)
    if found is None:
        return history
    if found == MOVING:
        raise ConfigError(
            f"{_name(tx)} holds an unfinished move; run the same `orchestrator migrate --from` "
            "again, or name an empty database"
        )
    if found not in history:
        raise ConfigError(
            f"{_name(tx)} has schema {found}, which a newer orchestrator made; this one knows none "
            f"after {history[-1]}: upgrade orchestrator"
        )
    return history[history.index(found) + 1 :]


def _adopt(tx: sa.Connection, present: Set[str], folder: Path) -> str:
    """Stamp a database with the first revision, and return it. Raises `ConfigError`."""
    _check_first(tx, present, folder)
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    first = _history(folder)[0]
    context = MigrationContext.configure(tx, opts={"version_table": VERSION_TABLE})
    context.stamp(ScriptDirectory(str(folder)), first)
    return first


def _check_first(tx: sa.Connection, present: Set[str], folder: Path) -> None:
    """Raise `ConfigError` unless this is SQLite with the tables of the first revision."""
    if tx.dialect.name != "sqlite":
        raise ConfigError(
            f"{_name(tx)} has tables ({_listed(present)}) and no {VERSION_TABLE}; {_ELSEWHERE}"
        )
    scratch = sa.create_engine("sqlite://")
    with scratch.begin() as other:
        _run(other, _history(folder)[0], folder)
        names = _present(other)
        odd = {name for name in names if _shape(other, name) != _shape(tx, name)}
    scratch.dispose()
    if odd:
        raise ConfigError(
            f"{_name(tx)} has tables ({_listed(present)}) and no {VERSION_TABLE}, and they are not "
            f"those of the first schema ({_listed(odd)}); {_ELSEWHERE}"
        )


def _shape(tx: sa.Connection, table: str) -> object:
    """Return the columns and indexes of a SQLite table, unordered; None if it does not exist."""
    inspector = sa.inspect(tx)
    if not inspector.has_table(table):
        return None
    columns = {
        (column["name"], str(column["type"]), column["nullable"])
        for column in inspector.get_columns(table)
    }
    unique = {
        tuple(constraint["column_names"]) for constraint in inspector.get_unique_constraints(table)
    }
    indexes = {
        (
            index["name"],
            *index["column_names"],
            index["unique"],
            str(index.get("dialect_options", {}).get("sqlite_where")),
        )
        for index in inspector.get_indexes(table)
    }
    return columns, inspector.get_pk_constraint(table)["constrained_columns"], unique, indexes


def _present(tx: sa.Connection) -> Set[str]:
    """Return the tables of a database that have the names of ours."""
    return metadata.tables.keys() & set(sa.inspect(tx).get_table_names())


def _run(tx: sa.Connection, revision: str, folder: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={CONNECTION: tx})
    # The config parser interpolates percent signs.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with _ALEMBIC:
        command.upgrade(config, revision)


def _history(folder: Path) -> list[str]:
    """Return every revision, oldest first."""
    return sorted(path.stem.partition("_")[0] for path in folder.glob("versions/[0-9]*_*.py"))


def _name(tx: sa.Connection) -> str:
    return named(tx.engine.url)


def _listed(names: Set[str]) -> str:
    return ", ".join(sorted(names))
