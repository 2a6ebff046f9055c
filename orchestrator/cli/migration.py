"""Migration of the database: opening it, and reporting what was applied or what failed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import Record, Terminal
from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite.engine import Lock, checked_path, engines
from orchestrator.engine.encryption import encrypt_all
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import Settings, key_file
from orchestrator.foundation.signing.secret_keys import Keys


def run(terminal: Terminal, url: str, keys: Keys | None, *, check: bool) -> None:
    """Migrate a database, or only check whether that is needed (`check`).

    With `keys`, then encrypt what an older version stored in the clear; without, the service does
    it. Raises `Failure` or `ConfigError`.
    """
    name = _named(url)
    applied: list[str] = []
    with _reading(name, url) if check else changing(url) as tx:
        if check:
            _check(tx, name)
        else:
            applied = schema.upgrade(tx)
    if keys is not None and not check:
        _encrypt(name, url, keys)
    if terminal.json:
        terminal.document(_document(name, schema.head(), applied))
    elif terminal.quiet:
        terminal.say(*applied)
    else:
        lines = [f"{name}: {schema.title(revision)}" for revision in applied]
        terminal.say(*(lines or [f"{name} is up to date at {schema.head()}"]))


def keys_of(settings: Settings) -> Keys | None:
    """Return the secret keys of a service; None if there are none yet. Raises `ConfigError`."""
    given, file = [key.get_secret_value() for key in settings.secret_keys], settings.database_file
    if not given and file is not None and key_file.path_for(file).exists():
        given = key_file.read(key_file.path_for(file))
    return Keys(given) if given else None


def _named(url: str) -> str:
    return schema.named(postgres.url_of(url) if postgres.is_postgres(url) else sa.make_url(url))


def _check(tx: sa.Connection, name: str) -> None:
    try:
        schema.check(tx)
    except ConfigError as error:
        raise Failure(str(error), document=_document(name, schema.current(tx), [])) from error


def _document(name: str, revision: str | None, applied: Sequence[str]) -> Record:
    """Return the `--json` document: the database, its schema, and the one this program needs."""
    return {"database": name, "revision": revision, "needed": schema.head(), "applied": [*applied]}


def _encrypt(name: str, url: str, keys: Keys) -> None:
    """Encrypt what an older version stored in the clear, in transactions of its own."""
    shared = postgres.is_postgres(url)
    engine = postgres.engine_of(url, 1, timeouts=False) if shared else engines(url)[0]
    lock = contextlib.nullcontext() if shared else Lock(url)
    with lock, _reported(name, engine, "run the command again"):
        encrypt_all(engine, keys)


@contextlib.contextmanager
def changing(url: str) -> Iterator[sa.Connection]:
    """Yield a transaction. A SQLite file is locked, and created if it is missing."""
    name = _named(url)
    if postgres.is_postgres(url):
        with _begun(name, postgres.engine_of(url, 1, timeouts=False)) as tx:
            yield tx
        return
    checked_path(url)
    with Lock(url), _begun(name, engines(url)[0]) as tx:
        yield tx


@contextlib.contextmanager
def _reading(name: str, url: str) -> Iterator[sa.Connection]:
    """Yield a read-only transaction. A SQLite file may be in use by another process."""
    if postgres.is_postgres(url):
        engine = postgres.engine_of(url, 1, read_only=True)
    elif checked_path(url).exists():
        engine = engines(url)[1]
    else:
        hint = "`orchestrator migrate` creates it"
        raise Failure(f"{name} is not there yet", hint=hint, document=_document(name, None, []))
    with _begun(name, engine) as tx:
        yield tx


@contextlib.contextmanager
def _begun(name: str, engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a transaction, committed at the end. Raises `Failure` with the database's message."""
    hint = "nothing was changed; --database-url names another"
    with _reported(name, engine, hint), engine.begin() as tx:
        yield tx


@contextlib.contextmanager
def _reported(name: str, engine: sa.Engine, hint: str) -> Iterator[None]:
    """Close the engine at the end. Raises `Failure` with the database's message."""
    try:
        yield
    except (sqlite3.DatabaseError, sa.exc.DBAPIError) as error:
        words = " ".join(str(getattr(error, "orig", error)).split())
        raise Failure(f"{name}: {words}", hint=hint) from error
    finally:
        engine.dispose()
