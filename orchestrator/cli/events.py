"""`orchestrator events`: the durable log of what happened, and telling of it again."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.columns import fitting
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import EVENTS, JOBS, SUBSCRIBERS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.jobs import Limit, ago
from orchestrator.cli.lookup import EVENT, JOB, SUBSCRIBER, find
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.foundation.ids import earliest

app = typer.Typer(
    no_args_is_help=True, help="The durable log: look at events, and tell subscribers again."
)

COLUMNS: Columns = {
    "id": lambda one: one["id"],
    "at": lambda one: moment(one["timestamp"]),
    "type": lambda one: one["type"],
    "job": lambda one: one["job"] or "-",
    "by": lambda one: one["source"],
}
#: In a line of a small terminal.
_NARROW: Columns = {name: COLUMNS[name] for name in ("id", "at", "type", "by")}
_WIDE = 110
EventId = Annotated[
    str,
    typer.Argument(
        metavar="EVT", help="An event's id, or the beginning of one.", autocompletion=EVENTS
    ),
]


@command(app, "ls", "orchestrator events ls --type 'job.*' --since 1h")
def ls(
    session: Session,
    type: Annotated[
        str | None, typer.Option(help="Event types, comma separated; * matches.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Of one job.", autocompletion=JOBS)] = None,
    since: Annotated[str | None, typer.Option(help="Of the last 90s, 15m, 2h, 30d.")] = None,
    limit: Limit = 50,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List events, newest first."""
    oldest = earliest("evt", ago("--since", since, session.now())) if since else ""
    with session.client() as client:
        of = find(client, JOB, job)["id"] if job else None
        envelope = client.page(
            "/v1/events", type=type, job=of, limit=limit, after=after, oldest=oldest
        )
    session.terminal.listing(envelope, fitting(COLUMNS, _NARROW, _WIDE))


@command(app, "show", "orchestrator events show evt_01m7x")
def show(session: Session, event: EventId) -> None:
    """Show an event, and whom it was delivered to."""
    with session.client() as client:
        found = find(client, EVENT, event)
        if session.terminal.json or session.terminal.quiet:
            owed = []
        else:
            owed = client.get("/v1/deliveries", event=found["id"], limit=200)["data"]
    data = found["data"]
    session.terminal.record(
        found,
        {
            "id": found["id"],
            "type": found["type"],
            "at": moment(found["timestamp"]),
            "sequence": found["sequence"],
            "late": "yes" if found.get("late") else None,
            "by": found["source"],
            "job": found["job"],
            "about": ", ".join(
                f"{name} {data[name]}" for name in ("status", "name", "url") if data.get(name)
            ),
            "deliveries": "\n".join(_delivery(one) for one in owed),
        },
    )


def _delivery(one: Record) -> str:
    answer = one.get("last_status") or one.get("last_error") or ""
    return f"{one['id']} {one['status']} to {one['subscriber']} {answer}".rstrip()


@command(app, "replay", "orchestrator events replay evt_01m7x --to sub_01m7x")
def replay(
    session: Session,
    event: EventId,
    to: Annotated[
        str | None,
        typer.Option(metavar="SUB", help="To this subscriber alone.", autocompletion=SUBSCRIBERS),
    ] = None,
) -> None:
    """Deliver an event once more: to everyone who was owed it, and to active subscribers who joined since.

    That makes no new event. On your own machine, `orchestrator listen --from EVT` tells of it, and of what followed.
    """
    with session.client() as client:
        found = find(client, EVENT, event)["id"]
        if to is None:
            answer: Record = client.call("POST", f"/v1/events/{found}/replay").document
            session.terminal.record(
                answer, {"event": found, "deliveries": answer["count"]}, key="event"
            )
            return
        subscriber = find(client, SUBSCRIBER, to)["id"]
        owed = client.get("/v1/deliveries", event=found, subscriber=subscriber, limit=1)["data"]
        if not owed:
            message = f"{found} was not owed to {subscriber}"
            hint = f"without --to, it also goes to those who joined since: orchestrator events replay {found}"
            raise Failure(message, hint=hint, code=Exit.NOT_FOUND)
        again: Record = client.call("POST", f"/v1/deliveries/{owed[0]['id']}/retry").document
    session.terminal.record(
        again, {"event": found, "delivery": again["id"], "status": again["status"]}
    )
