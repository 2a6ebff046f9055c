"""`orchestrator deliveries`: events owed to subscribers, their attempts, and retries."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import replays
from orchestrator.cli.batch import Yes, each, is_single, page_of, several
from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import DELIVERIES, EVENTS, SUBSCRIBERS, among
from orchestrator.cli.job_deliveries import is_ended_by_status
from orchestrator.cli.lookup import DELIVERY, EVENT, SUBSCRIBER, find
from orchestrator.cli.options import After, Limit, ago
from orchestrator.cli.replays import DryRun, Rate, Since, Types, Until, Wait, Wish
from orchestrator.cli.terminal import Record, moment
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import DeliveryState
from orchestrator.schemas import Attempt, Delivery, TriedDelivery

app = typer.Typer(no_args_is_help=True, help="Events owed to subscribers.")

TABLE = Table(
    Delivery,
    "id",
    "status",
    ("answer", lambda row: row.last_status or row.last_error or "-"),
    "host",
    ("event", "event_type"),
    "tries",
    ("waits", lambda row: row.waiting.reason if row.waiting else ""),
    ("next", "next_attempt_at"),
    "job",
    "subscriber",
    # Ids take 30 columns each: with three of them the rest does not fit in a narrow line.
    first=("id", "status", "answer", "host", "event"),
)
ATTEMPTS = Table(
    Attempt,
    ("try", "n"),
    "at",
    ("answer", lambda attempt: attempt.status or attempt.error or "-"),
    "ms",
    ("response", lambda attempt: attempt.response or ""),
)
_WAITS = {
    "scheduled": "for the next attempt of its schedule",
    "resting": "until the address has rested, as its Retry-After asked; "
    "`orchestrator deliveries retry` tries it now",
    "queued": "for a free slot of its subscriber",
    "paused": "the subscriber is paused",
    "disabled": "the subscriber is disabled",
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


@command(app, "ls", "orchestrator deliveries ls --status dead")
def ls(
    session: Session,
    status: Annotated[
        str | None,
        typer.Option(help="pending, held, delivered or dead.", autocompletion=among(DeliveryState)),
    ] = None,
    subscriber: Annotated[
        str | None,
        typer.Option(metavar="SUB", help="Of one subscriber.", autocompletion=SUBSCRIBERS),
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVT", help="Of one event.", autocompletion=EVENTS)
    ] = None,
    since: Annotated[str | None, typer.Option(help="Of the last 90s, 15m, 2h, 30d.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List deliveries, newest first."""
    oldest = earliest("dlv", ago("--since", since, session.now())) if since is not None else ""
    with session.client() as client:
        filters: Record = {
            "status": status,
            "subscriber": find(client, SUBSCRIBER, subscriber).id if subscriber else None,
            "event": find(client, EVENT, event).id if event else None,
        }
        page = client.full_page(
            DELIVERY.page, DELIVERY.path, **filters, limit=limit, after=after, oldest=oldest
        )
    session.terminal.listing(page, TABLE)


@command(app, "show", "orchestrator deliveries show dlv_01m7x")
def show(session: Session, delivery: DeliveryId) -> None:
    """Show one delivery and its attempts."""
    with session.client() as client:
        found = find(client, DELIVERY, delivery)
        tried = client.get(TriedDelivery, f"{DELIVERY.path}/{found.id}")
    session.terminal.record(tried, shown(tried))
    if tried.attempts and not session.terminal.json and not session.terminal.quiet:
        session.terminal.listing(page_of(tried.attempts), ATTEMPTS)


@command(
    app, "retry", "orchestrator deliveries ls --status dead -q | orchestrator deliveries retry -"
)
def retry(session: Session, deliveries: DeliveryIds) -> None:
    """Try deliveries again now, in any state, also while their subscriber rests.

    Each failed attempt counts in their schedule.
    """
    with session.client() as client:
        ids = [find(client, DELIVERY, word).id for word in several(deliveries)]
        each(
            session.terminal,
            "deliveries",
            list(dict.fromkeys(ids)),
            lambda delivery: client.post(TriedDelivery, f"{DELIVERY.path}/{delivery}/retry"),
            shown,
            TABLE,
            single=is_single(deliveries),
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
    """Send again what did not arrive, all of it in a time span. Counts it first and asks."""
    wish = Wish(subscriber, status, since, until, types, rate=rate)
    replays.run(session, wish, dry_run=dry_run, yes=yes, wait=wait)


def shown(delivery: Delivery) -> Record:
    """Return the fields of a delivery to display, in order."""
    done, due, waiting = delivery.done_at, delivery.next_attempt_at, delivery.waiting
    return {
        "id": delivery.id,
        "status": delivery.status,
        "event": f"{delivery.event} ({delivery.event_type})",
        "job": delivery.job,
        "subscriber": f"{delivery.subscriber} ({delivery.host or 'deleted'})",
        "tries": delivery.tries,
        "last answer": delivery.last_status,
        "last error": delivery.last_error,
        "ended": _end(delivery),
        "created": moment(delivery.created_at),
        "done": moment(done) if done else None,
        "next try": moment(due) if due else None,
        "waits": _WAITS.get(waiting.reason, waiting.reason) if waiting else None,
        "hint": _hint(delivery),
    }


def _end(delivery: Delivery) -> str | None:
    """Return why a delivery is dead before its schedule has ended."""
    if delivery.status != "dead" or not is_ended_by_status(delivery):
        return None
    return f"dead at once: {delivery.last_status} is a final status of its retry policy"


def _hint(delivery: Delivery) -> str | None:
    """Return what to do about a receiver that does not let us in."""
    if delivery.status == "delivered" or delivery.last_status not in (401, 403):
        return None
    return (
        "does the receiver verify the signature with the secret of this subscriber, over the body"
        " as it came? `orchestrator signature verify` tries that by hand,"
        f" `orchestrator subscribers rotate-secret {delivery.subscriber}` makes a new secret;"
        " callback URLs: `orchestrator secrets callback`"
    )
