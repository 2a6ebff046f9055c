"""`orchestrator keys`: API keys, made through the server, or in the database itself while no server runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

import typer

from orchestrator import keyring
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.jobs import Limit, seconds
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.clock import rfc3339
from orchestrator.ids import Ids
from orchestrator.keyring import Scope
from orchestrator.store import Store, Tx

app = typer.Typer(no_args_is_help=True, help="Who may call the API.")
T = TypeVar("T")

COLUMNS: Columns = {
    "id": lambda one: one["id"],
    "name": lambda one: one["name"],
    "scope": lambda one: one["scope"],
    "key": lambda one: f"{one['prefix']}..." if one.get("prefix") else "",
    "created": lambda one: moment(one.get("created_at")),
    "expires": lambda one: moment(one.get("expires_at")),
    "revoked": lambda one: moment(one.get("revoked_at")),
}


@command(app, "create", "orchestrator keys create --name ci --scope write --expires 90d")
def create(
    session: Session,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[Scope, typer.Option(help="What it may do; each includes those before it.")] = Scope.ADMIN,
    expires: Annotated[str | None, typer.Option(help="In 12h, 90d; default: never.")] = None,
) -> None:
    """Make an API key. It is shown once, now."""
    now = session.now()
    until = now + timedelta(seconds=seconds(expires)) if expires else None

    def offline(tx: Tx) -> Record:
        ids = Ids(session.clock, random.SystemRandom())
        secret, row = keyring.issue(tx, ids, name=name, scope=scope, expires_at=until, now=now)
        return {**_shown(row), "key": secret}

    body: Record = {"name": name, "scope": scope.value, **({"expires_at": rfc3339(until)} if until else {})}
    try:
        with session.client() as client:
            made: Record = client.call("POST", "/v1/keys", body=body).document
    except Failure as failure:
        made = _without_server(session, failure, offline)
    secret = made.get("key") or made.get("secret")
    if session.terminal.json:
        session.terminal.document(made)
        return
    session.terminal.say(str(secret))
    session.terminal.notice(f"{made['id']} ({made['scope']}); the key is not shown again")


@command(app, "ls", "orchestrator keys ls")
def ls(session: Session, limit: Limit = 50, after: str | None = None) -> None:
    """List keys, newest first. The keys themselves are not kept anywhere."""

    def offline(tx: Tx) -> Record:
        rows = [
            _shown({str(name): value for name, value in row.items()})
            for row in keyring.ls(tx, limit=limit + 1, after=after)
        ]
        page = rows[:limit]
        more = len(rows) > limit
        return {"object": "list", "data": page, "has_more": more, "next_cursor": page[-1]["id"] if more else None}

    try:
        with session.client() as client:
            envelope: Record = client.get("/v1/keys", limit=limit, after=after)
    except Failure as failure:
        envelope = _without_server(session, failure, offline)
    session.terminal.listing(envelope, COLUMNS)


def _without_server(session: Session, failure: Failure, run: Callable[[Tx], T]) -> T:
    """Return what `run` makes of the local database, where that is what the operator must have meant."""
    if failure.code is not Exit.UNREACHABLE or session.options.server is not None:
        raise failure
    settings = session.settings()
    if settings.database_file is None or not settings.database_file.parent.is_dir():
        raise failure
    session.terminal.notice(f"no server on port {settings.port}: using {settings.database_file} itself")
    return asyncio.run(_in_database(settings.database_url, run))


async def _in_database(url: str, run: Callable[[Tx], T]) -> T:
    store = Store(url)
    store.start()
    try:
        return await store.write(run)
    finally:
        store.close()


def _shown(row: Record) -> Record:
    """Return a row as the API would: without its digest, times as text."""
    told = {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()}
    del told["digest"]
    return {"object": "api_key", **told, "scope": str(row["scope"])}
