"""`orchestrator keys`: API keys, through the server, or in the database while no server runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

from orchestrator.cli.batch import Yes, confirm
from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.lookup import KEY, find, only
from orchestrator.cli.options import After, Limit, seconds
from orchestrator.cli.terminal import moment
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.masking import API_KEY_PREFIX
from orchestrator.schemas import ApiKey, NewApiKey

app = typer.Typer(no_args_is_help=True, help="Who may call the API.")

TABLE = Table(
    ApiKey,
    "id",
    "name",
    "scope",
    ("state", lambda key: state(key)),
    ("last used", "last_used_at"),
    ("expires", "expires_at"),
    ("a minute", lambda key: key.rate_limit or "-"),
    ("key", lambda key: f"{key.prefix}..."),
    "created_at",
    first=("id", "name", "scope", "state", "last used"),
)


_NO_SCOPE = "without --scope a key submits and reads; only --scope admin manages keys"


@command(app, "create", "orchestrator keys create --name ci --scope write --expires 90d")
def create(
    session: Session,
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    scope: Annotated[
        Literal["admin", "write", "read"] | None,
        typer.Option(help="Each includes those after it. Default: write."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="In 12h, 90d; default: never.")] = None,
    rate_limit: Annotated[
        int | None,
        typer.Option(min=0, help="Requests per minute; 0: unlimited. Default: the settings'."),
    ] = None,
) -> None:
    """Create an API key. It is shown once, now."""
    granted = scope or "write"
    lasting = None if expires is None else timedelta(seconds=seconds("--expires", expires))
    until = None if lasting is None else session.now() + lasting
    body = {
        "name": name,
        "scope": granted,
        "expires_at": rfc3339(until) if until else None,
        "rate_limit": rate_limit,
    }
    given = {field: value for field, value in body.items() if value is not None}
    try:
        with session.client() as client:
            made = client.post(NewApiKey, "/v1/keys", given)
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli import local_keys

        made = local_keys.create(
            url, session.clock, name=name, scope=granted, expires_at=until, rate_limit=rate_limit
        )
    if session.terminal.json:
        session.terminal.document(made)
        return
    session.terminal.say(made.key)
    session.terminal.notice(f"{made.id} ({made.scope}); the key is not shown again")
    if scope is None:
        session.terminal.notice(_NO_SCOPE)


@command(app, "ls", "orchestrator keys ls")
def ls(session: Session, limit: Limit = 50, after: After = None) -> None:
    """List keys, newest first. The keys themselves are not stored."""
    try:
        with session.client() as client:
            page = client.get(KEY.page, KEY.path, limit=limit, after=after)
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli import local_keys

        page = local_keys.page(url, limit=limit, after=after)
    session.terminal.listing(page, TABLE)


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
    """Revoke a key, for good."""
    if key.startswith(API_KEY_PREFIX):
        raise typer.BadParameter(
            "give the key's id (`orchestrator keys ls`), not the key", param_hint="KEY"
        )
    try:
        with session.client() as client:
            found = find(client, KEY, key)
            _confirm(session, found, yes)
            client.send("DELETE", f"/v1/keys/{found.id}")
    except Failure as failure:
        url = _database(session, failure)
        from orchestrator.cli import local_keys

        # The "z" includes a complete id.
        found = only(KEY, key, lambda after: local_keys.page(url, limit=2, after=after + "z"))
        _confirm(session, found, yes)
        local_keys.revoke(url, session.clock, found.id)
    session.terminal.record({"id": found.id, "revoked": True}, {"revoked": found.id})


def _confirm(session: Session, key: ApiKey, yes: bool) -> None:
    if not yes:
        confirm(session.terminal, "revoke this key?", [f"{key.id} {key.name} {key.scope}"])


def state(key: ApiKey) -> str:
    """Return `good` or when it was revoked. Expiry is left to the reader's clock."""
    return f"revoked {moment(key.revoked_at)}" if key.revoked_at else "good"


def _database(session: Session, failure: Failure) -> str:
    """Return the URL of the local database if no server runs. Raises `failure` otherwise."""
    if failure.code is not Exit.UNREACHABLE or session.options.server is not None:
        raise failure
    settings = session.settings()
    if settings.database_file is None or not settings.database_file.parent.is_dir():
        raise failure
    session.terminal.notice(
        f"no server on port {settings.port}: using {settings.database_file} itself"
    )
    return settings.database_url
