"""`orchestrator events`: the durable log of events, and replays of one of them."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import EVENTS, JOBS, SUBSCRIBERS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.job_deliveries import answer
from orchestrator.cli.lookup import DELIVERY, EVENT, JOB, SUBSCRIBER, find
from orchestrator.cli.options import After, Limit, ago
from orchestrator.cli.terminal import moment
from orchestrator.foundation.ids import earliest
from orchestrator.schemas import Delivery, EventReplay, LoggedEvent, TriedDelivery

app = typer.Typer(no_args_is_help=True, help="The durable log: look at events and replay them.")

TABLE = Table(
    LoggedEvent,
    "id",
    ("at", "timestamp"),
    "type",
    ("job", "job_id"),
    ("by", "source"),
    first=("id", "at", "type", "by"),
)
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
    after: After = None,
) -> None:
    """List events, newest first."""
    oldest = earliest("evt", ago("--since", since, session.now())) if since is not None else ""
    with session.client() as client:
        job_id = find(client, JOB, job).id if job else None
        page = client.full_page(
            EVENT.page, EVENT.path, type=type, job=job_id, limit=limit, after=after, oldest=oldest
        )
    session.terminal.listing(page, TABLE)


@command(app, "show", "orchestrator events show evt_01m7x")
def show(session: Session, event: EventId) -> None:
    """Show an event and its deliveries."""
    deliveries: list[Delivery] = []
    with session.client() as client:
        found = find(client, EVENT, event)
        if not (session.terminal.json or session.terminal.quiet):
            deliveries = client.get(DELIVERY.page, DELIVERY.path, event=found.id, limit=200).data
    data = found.data
    session.terminal.record(
        found,
        {
            "id": found.id,
            "type": found.type,
            "at": moment(found.timestamp),
            "sequence": found.sequence,
            "late": "yes" if found.late else None,
            "by": found.source,
            "job": found.job_id,
            "about": ", ".join(
                f"{name} {data[name]}" for name in ("status", "name", "url") if data.get(name)
            ),
            "deliveries": [*map(_delivery, deliveries)],
        },
    )


def _delivery(delivery: Delivery) -> str:
    where = f"{delivery.status} to {delivery.subscriber}"
    return f"{delivery.id} {where} {answer(delivery)}".rstrip()


@command(app, "replay", "orchestrator events replay evt_01m7x --to sub_01m7x")
def replay(
    session: Session,
    event: EventId,
    to: Annotated[
        str | None,
        typer.Option(metavar="SUB", help="To this subscriber alone.", autocompletion=SUBSCRIBERS),
    ] = None,
) -> None:
    """Deliver an event again: to its subscribers, and to active ones added since.

    That makes no new event. On your own machine, `orchestrator listen --from EVT` shows it, and
    what followed.
    """
    with session.client() as client:
        found = find(client, EVENT, event).id
        if to is None:
            replayed = client.post(EventReplay, f"{EVENT.path}/{found}/replay")
            session.terminal.record(
                replayed, {"event": found, "deliveries": replayed.count}, key="event"
            )
            return
        subscriber = find(client, SUBSCRIBER, to).id
        page = client.get(DELIVERY.page, DELIVERY.path, event=found, subscriber=subscriber, limit=1)
        if not page.data:
            raise Failure(
                f"{found} was not owed to {subscriber}",
                hint="without --to, it also goes to those added since:"
                f" orchestrator events replay {found}",
                code=Exit.NOT_FOUND,
            )
        again = client.post(TriedDelivery, f"{DELIVERY.path}/{page.data[0].id}/retry")
    session.terminal.record(again, {"event": found, "delivery": again.id, "status": again.status})
