"""`orchestrator deliveries`: events owed to subscribers, every try at them, and another one."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import replays
from orchestrator.cli.batch import Yes, each, one_named, several
from orchestrator.cli.columns import fitting
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import DELIVERIES, EVENTS, SUBSCRIBERS, among
from orchestrator.cli.jobs import Limit, ago
from orchestrator.cli.lookup import DELIVERY, EVENT, SUBSCRIBER, find
from orchestrator.cli.replays import DryRun, Rate, Since, Types, Until, Wait, Wish
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import DeliveryState

app = typer.Typer(no_args_is_help=True, help="Events owed to subscribers.")

COLUMNS: Columns = {
    "id": lambda one: one["id"],
    "status": lambda one: one["status"],
    "event": lambda one: one["event_type"],
    "job": lambda one: one["job"] or "-",
    "subscriber": lambda one: one["subscriber"],
    "tries": lambda one: one.get("tries"),
    "answer": lambda one: one.get("last_status") or one.get("last_error") or "-",
    "next": lambda one: moment(one.get("next_attempt_at")),
}
#: Ids take 30 columns each: with three of them, what matters does not fit in a line of a small terminal.
_NARROW: Columns = {name: COLUMNS[name] for name in ("id", "status", "event", "tries", "answer")}
_WIDE = 150
ATTEMPTS: Columns = {
    "try": lambda one: one["n"],
    "at": lambda one: moment(one["at"]),
    "answer": lambda one: one["status"] or one["error"] or "-",
    "ms": lambda one: one["ms"],
    "said": lambda one: one["response"] or "",
}
DeliveryId = Annotated[
    str,
    typer.Argument(
        metavar="DLV", help="A delivery's id, or the beginning of one.", autocompletion=DELIVERIES
    ),
]
DeliveryIds = Annotated[
    list[str],
    typer.Argument(
        metavar="DLV...",
        help="Ids, or beginnings of them; - reads stdin.",
        autocompletion=DELIVERIES,
    ),
]
Status = Annotated[
    str | None,
    typer.Option(help="pending, held, delivered or dead.", autocompletion=among(DeliveryState)),
]


@command(app, "ls", "orchestrator deliveries ls --status dead")
def ls(
    session: Session,
    status: Status = None,
    subscriber: Annotated[
        str | None,
        typer.Option(metavar="SUB", help="Of one subscriber.", autocompletion=SUBSCRIBERS),
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVT", help="Of one event.", autocompletion=EVENTS)
    ] = None,
    since: Annotated[str | None, typer.Option(help="Of the last 90s, 15m, 2h, 30d.")] = None,
    limit: Limit = 50,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List deliveries, newest first."""
    oldest = earliest("dlv", ago("--since", since, session.now())) if since else ""
    with session.client() as client:
        to = find(client, SUBSCRIBER, subscriber)["id"] if subscriber else None
        of = find(client, EVENT, event)["id"] if event else None
        envelope = client.page(
            "/v1/deliveries",
            status=status,
            subscriber=to,
            event=of,
            limit=limit,
            after=after,
            oldest=oldest,
        )
    session.terminal.listing(envelope, fitting(COLUMNS, _NARROW, _WIDE))


@command(app, "show", "orchestrator deliveries show dlv_01m7x")
def show(session: Session, delivery: DeliveryId) -> None:
    """Show one delivery and every try at it."""
    with session.client() as client:
        found: Record = client.get(f"/v1/deliveries/{find(client, DELIVERY, delivery)['id']}")
    session.terminal.record(found, shown(found))
    if found.get("attempts") and not session.terminal.json and not session.terminal.quiet:
        session.terminal.listing({"data": found["attempts"]}, ATTEMPTS)


@command(
    app, "retry", "orchestrator deliveries ls --status dead -q | orchestrator deliveries retry -"
)
def retry(session: Session, deliveries: DeliveryIds) -> None:
    """Try deliveries again now, whatever became of them; each try that fails is one of their schedule."""
    with session.client() as client:

        def again(delivery: str) -> Record:
            done: Record = client.call("POST", f"/v1/deliveries/{delivery}/retry").document
            return done

        found = list(
            dict.fromkeys(find(client, DELIVERY, one)["id"] for one in several(deliveries))
        )
        columns = fitting(COLUMNS, _NARROW, _WIDE)
        each(
            session.terminal,
            "deliveries",
            found,
            again,
            shown,
            columns,
            alone=one_named(deliveries),
        )


@command(app, "replay", "orchestrator deliveries replay --status dead --since 1d --dry-run")
def replay(
    session: Session,
    status: Annotated[str, typer.Option(help="pending, held, delivered or dead.")] = "dead",
    since: Since = None,
    until: Until = None,
    subscriber: Annotated[str | None, typer.Option(metavar="SUB", help="Only to this one.")] = None,
    types: Types = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
) -> None:
    """Send again what did not arrive, all of it in a span of time. Says how much that is and asks."""
    wish = Wish(subscriber, status, since, until, types, rate=rate)
    replays.run(session, wish, dry_run=dry_run, yes=yes, wait=wait)


def shown(delivery: Record) -> Record:
    """Return what people want to know of a delivery, in order."""
    return {
        "id": delivery["id"],
        "status": delivery["status"],
        "event": f"{delivery['event']} ({delivery['event_type']})",
        "job": delivery["job"],
        "subscriber": delivery["subscriber"],
        "tries": delivery["tries"],
        "last answer": delivery["last_status"],
        "last error": delivery["last_error"],
        "created": moment(delivery["created_at"]),
        "done": moment(delivery["done_at"]) if delivery["done_at"] else None,
        "next try": moment(delivery["next_attempt_at"]) if delivery["next_attempt_at"] else None,
    }
