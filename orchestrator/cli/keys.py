"""`orchestrator keys`: API keys, made through the server, or in the database itself while no server runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.jobs import Limit, seconds
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.clock import rfc3339

app = typer.Typer(no_args_is_help=True, help="Who may call the API.")

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
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    scope: Annotated[Literal["admin", "write", "read"], typer.Option(help="Each includes those after it.")] = "admin",
    expires: Annotated[str | None, typer.Option(help="In 12h, 90d; default: never.")] = None,
) -> None:
    """Make an API key. It is shown once, now."""
    until = session.now() + timedelta(seconds=seconds("--expires", expires)) if expires else None
    body: Record = {"name": name, "scope": scope, **({"expires_at": rfc3339(until)} if until else {})}
    try:
        with session.client() as client:
            made: Record = client.call("POST", "/v1/keys", body=body).document
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli.offline import issue

        made = issue(url, session.clock, name=name, scope=scope, expires_at=until)
    if session.terminal.json:
        session.terminal.document(made)
        return
    session.terminal.say(str(made["key"]))
    session.terminal.notice(f"{made['id']} ({made['scope']}); the key is not shown again")


@command(app, "ls", "orchestrator keys ls")
def ls(session: Session, limit: Limit = 50, after: str | None = None) -> None:
    """List keys, newest first. The keys themselves are not kept anywhere."""
    try:
        with session.client() as client:
            envelope: Record = client.get("/v1/keys", limit=limit, after=after)
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli.offline import listing

        envelope = listing(url, limit=limit, after=after)
    session.terminal.listing(envelope, COLUMNS)


def _database(session: Session, failure: Failure) -> str:
    """Return the local database, where that is what the operator must have meant; raise `failure` elsewhere."""
    if failure.code is not Exit.UNREACHABLE or session.options.server is not None:
        raise failure
    settings = session.settings()
    if settings.database_file is None or not settings.database_file.parent.is_dir():
        raise failure
    session.terminal.notice(f"no server on port {settings.port}: using {settings.database_file} itself")
    return settings.database_url
