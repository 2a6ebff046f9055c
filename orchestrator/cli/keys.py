"""`orchestrator keys`: API keys, made through the server, or in the database itself while no server runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

from orchestrator.cli.batch import Yes, confirm
from orchestrator.cli.columns import fitting
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.jobs import Limit, seconds
from orchestrator.cli.lookup import Kind, find
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.foundation.clock import rfc3339

app = typer.Typer(no_args_is_help=True, help="Who may call the API.")

COLUMNS: Columns = {
    "id": lambda one: one["id"],
    "name": lambda one: one["name"],
    "scope": lambda one: one["scope"],
    "state": lambda one: state(one),
    "last used": lambda one: moment(one.get("last_used_at")),
    "expires": lambda one: moment(one.get("expires_at")),
    "a minute": lambda one: one.get("rate_limit") or "-",
    "key": lambda one: f"{one['prefix']}..." if one.get("prefix") else "",
    "created": lambda one: moment(one.get("created_at")),
}
#: What matters of a key, in a line of a small terminal.
_NARROW: Columns = {name: COLUMNS[name] for name in ("id", "name", "scope", "state", "last used")}
_WIDE = 150
KEY = Kind("key", "/v1/keys", "key", "orchestrator keys ls")


@command(app, "create", "orchestrator keys create --name ci --scope write --expires 90d")
def create(
    session: Session,
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    scope: Annotated[
        Literal["admin", "write", "read"], typer.Option(help="Each includes those after it.")
    ] = "admin",
    expires: Annotated[str | None, typer.Option(help="In 12h, 90d; default: never.")] = None,
    rate_limit: Annotated[
        int | None,
        typer.Option(
            min=0, help="Requests a minute; 0: any number. Default: what the settings say."
        ),
    ] = None,
) -> None:
    """Make an API key. It is shown once, now."""
    until = session.now() + timedelta(seconds=seconds("--expires", expires)) if expires else None
    body: Record = {"name": name, "scope": scope, "expires_at": rfc3339(until) if until else None}
    given = {
        key: value
        for key, value in (body | {"rate_limit": rate_limit}).items()
        if value is not None
    }
    try:
        with session.client() as client:
            made: Record = client.call("POST", "/v1/keys", body=given).document
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli.local_keys import issue

        made = issue(
            url, session.clock, name=name, scope=scope, expires_at=until, rate_limit=rate_limit
        )
    if session.terminal.json:
        session.terminal.document(made)
        return
    session.terminal.say(str(made["key"]))
    session.terminal.notice(f"{made['id']} ({made['scope']}); the key is not shown again")


@command(app, "ls", "orchestrator keys ls")
def ls(
    session: Session,
    limit: Limit = 50,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List keys, newest first. The keys themselves are not kept anywhere."""
    try:
        with session.client() as client:
            envelope: Record = client.get("/v1/keys", limit=limit, after=after)
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli.local_keys import listing

        envelope = listing(url, limit=limit, after=after)
    session.terminal.listing(envelope, fitting(COLUMNS, _NARROW, _WIDE))


@command(app, "revoke", "orchestrator keys revoke key_01m7x --yes")
def revoke(
    session: Session,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="A key's id, or the beginning of one; not the key itself."
        ),
    ],
    yes: Yes = False,
) -> None:
    """End a key, for good."""
    if key.startswith("orc_"):
        raise typer.BadParameter(
            "give the key's id (`orchestrator keys ls`), not the key", param_hint="KEY"
        )
    try:
        with session.client() as client:
            found = find(client, KEY, key)
            if not yes:
                confirm(
                    session.terminal,
                    "revoke this key?",
                    [f"{found['id']} {found['name']} {found['scope']}"],
                )
            client.call("DELETE", f"/v1/keys/{found['id']}")
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli.local_keys import end, held

        found = held(url, key)
        if not yes:
            confirm(
                session.terminal,
                "revoke this key?",
                [f"{found['id']} {found['name']} {found['scope']}"],
            )
        end(url, session.clock, found["id"])
    session.terminal.record({"id": found["id"], "revoked": True}, {"revoked": found["id"]})


def state(key: Record) -> str:
    """Return what a key is good for, in a word. Whether it has expired is the reader's clock's business."""
    return f"revoked {moment(key['revoked_at'])}" if key.get("revoked_at") else "good"


def _database(session: Session, failure: Failure) -> str:
    """Return the local database, where that is what the operator must have meant; raise `failure` elsewhere."""
    if failure.code is not Exit.UNREACHABLE or session.options.server is not None:
        raise failure
    settings = session.settings()
    if settings.database_file is None or not settings.database_file.parent.is_dir():
        raise failure
    session.terminal.notice(
        f"no server on port {settings.port}: using {settings.database_file} itself"
    )
    return settings.database_url
