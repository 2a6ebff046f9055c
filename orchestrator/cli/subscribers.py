"""`orchestrator subscribers` and `deliveries`: who is told, and whether it arrived."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.jobs import Limit
from orchestrator.cli.terminal import Columns, Record, moment

app = typer.Typer(no_args_is_help=True, help="Who is told what becomes of jobs.")
deliveries = typer.Typer(no_args_is_help=True, help="One event owed to one subscriber.")

COLUMNS: Columns = {
    "id": lambda one: one["id"],
    "kind": lambda one: one["kind"],
    "status": lambda one: one["status"],
    "types": lambda one: ",".join(one["types"]),
    "url": lambda one: one["url"],
    "description": lambda one: one.get("description") or "",
}
DELIVERIES: Columns = {
    "id": lambda one: one["id"],
    "status": lambda one: one["status"],
    "event": lambda one: one["event_type"],
    "job": lambda one: one["job"] or "-",
    "subscriber": lambda one: one["subscriber"],
    "tries": lambda one: one.get("tries"),
    "answer": lambda one: one.get("last_status") or one.get("last_error") or "-",
    "next": lambda one: moment(one.get("next_attempt_at")),
}


@command(app, "add", "orchestrator subscribers add https://my.app/hook --types job.succeeded,job.failed")
def add(
    session: Session,
    url: Annotated[str, typer.Argument(help="Where to send.")],
    kind: Annotated[str, typer.Option(help="webhook, slack, ...")] = "webhook",
    types: Annotated[
        str | None, typer.Option(help="Event types, comma separated; * matches. Default: final ones.")
    ] = None,
    description: str | None = None,
    rate_limit: Annotated[int | None, typer.Option(min=1, help="Deliveries per second.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(min=1, help="Deliveries at once.")] = None,
) -> None:
    """Add a subscriber. Its signing secret is shown once, now."""
    body: Record = {
        "kind": kind,
        "url": url,
        "types": [one.strip() for one in types.split(",")] if types else None,
        "description": description,
        "rate_limit": rate_limit,
        "max_in_flight": max_in_flight,
    }
    with session.client() as client:
        given = {name: value for name, value in body.items() if value is not None}
        made: Record = client.call("POST", "/v1/subscribers", body=given).document
    session.terminal.record(made, {name: show(made) for name, show in COLUMNS.items()} | {"secret": made.get("secret")})
    if made.get("secret") and not session.terminal.json:
        session.terminal.notice("the secret is not shown again; verify deliveries with a Standard Webhooks library")


@command(app, "ls", "orchestrator subscribers ls --json")
def ls(session: Session, limit: Limit = 50, after: str | None = None) -> None:
    """List subscribers."""
    with session.client() as client:
        session.terminal.listing(client.get("/v1/subscribers", limit=limit, after=after), COLUMNS)


@command(deliveries, "ls", "orchestrator deliveries ls --status dead")
def deliveries_ls(
    session: Session,
    status: Annotated[str | None, typer.Option(help="pending, held, delivered or dead.")] = None,
    subscriber: str | None = None,
    event: str | None = None,
    limit: Limit = 50,
    after: str | None = None,
) -> None:
    """List deliveries, newest first."""
    with session.client() as client:
        query = {"status": status, "subscriber": subscriber, "event": event, "limit": limit, "after": after}
        session.terminal.listing(client.get("/v1/deliveries", **query), DELIVERIES)
