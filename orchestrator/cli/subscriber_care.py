"""`orchestrator subscribers`, once they are there: held back, tried out, told again, given a new secret, deleted."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import replays
from orchestrator.cli.batch import Yes, confirm
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Failure
from orchestrator.cli.jobs import seconds
from orchestrator.cli.lookup import SUBSCRIBER, find
from orchestrator.cli.replays import DryRun, Rate, Since, Types, Until, Wait, Wish
from orchestrator.cli.subscriber_test import outcome, tried
from orchestrator.cli.subscribers import SubscriberId, changed
from orchestrator.cli.terminal import Record, moment


def register(app: typer.Typer) -> None:
    """Add the commands to `orchestrator subscribers`."""
    command(app, "pause", "orchestrator subscribers pause sub_01m7x")(pause)
    command(app, "resume", "orchestrator subscribers resume sub_01m7x")(resume)
    command(app, "rm", "orchestrator subscribers rm sub_01m7x --yes")(rm)
    command(app, "rotate-secret", "orchestrator subscribers rotate-secret sub_01m7x --grace 24h")(
        rotate_secret
    )
    command(app, "test", "orchestrator subscribers test sub_01m7x")(trial)
    command(
        app, "replay", "orchestrator subscribers replay sub_01m7x --since 1d --missed --dry-run"
    )(replay)


def pause(session: Session, subscriber: SubscriberId) -> None:
    """Hold a subscriber's deliveries; none is lost."""
    changed(session, subscriber, "POST", "/pause")


def resume(session: Session, subscriber: SubscriberId) -> None:
    """Let a paused or disabled subscriber's deliveries flow, what was held first."""
    changed(session, subscriber, "POST", "/resume")


def rm(session: Session, subscriber: SubscriberId, yes: Yes = False) -> None:
    """Delete a subscriber. What it is still owed is given up."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        if not yes:
            confirm(session.terminal, "delete this subscriber?", [f"{found['id']} {found['url']}"])
        client.call("DELETE", f"/v1/subscribers/{found['id']}")
    session.terminal.record({"id": found["id"], "deleted": True}, {"deleted": found["id"]})


def rotate_secret(
    session: Session,
    subscriber: SubscriberId,
    grace: Annotated[
        str, typer.Option(help="How long the old secret goes on signing too: 0, 90s, 24h, 7d.")
    ] = "24h",
) -> None:
    """Give a subscriber a new signing secret. It is shown once, now; both sign until the grace is over."""
    body = {"grace_seconds": seconds("--grace", grace)}
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)["id"]
        made: Record = client.call(
            "POST", f"/v1/subscribers/{found}/rotate-secret", body=body
        ).document
    if session.terminal.json:
        session.terminal.document(made)
        return
    session.terminal.say(str(made["secret"]))
    ends = moment(made["previous_expires_at"])
    session.terminal.notice(f"not shown again; the old secret goes on signing too until {ends} UTC")


def trial(
    session: Session,
    subscriber: SubscriberId,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not stay for the answer.")] = False,
) -> None:
    """Send a subscriber a test event and say what it answered; exit 1 if it did not take it."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        sent: Record = client.call("POST", f"/v1/subscribers/{found['id']}/test").document
        if no_wait:
            session.terminal.record(
                sent, {"event": sent["id"], "see": f"deliveries ls --event {sent['id']}"}
            )
            return
        delivery = tried(client, sent["id"])
    session.terminal.record(delivery, {"delivery": delivery["id"], "outcome": outcome(delivery)})
    if delivery["status"] != "delivered":
        show = f"`orchestrator deliveries show {delivery['id']}`; it is tried again like any other delivery"
        hint = (
            f"`orchestrator subscribers resume {found['id']}`"
            if delivery["status"] == "held"
            else show
        )
        raise Failure("the subscriber did not take it", hint=hint)


def replay(
    session: Session,
    subscriber: SubscriberId,
    status: Annotated[str, typer.Option(help="pending, held, delivered or dead.")] = "dead",
    since: Since = None,
    until: Until = None,
    missed: Annotated[
        bool, typer.Option("--missed", help="Events of the time before it was there.")
    ] = False,
    types: Types = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
) -> None:
    """Send a subscriber again what did not arrive. Says how much that is and asks."""
    wish = Wish(subscriber, status, since, until, types, missed, rate)
    replays.run(session, wish, dry_run=dry_run, yes=yes, wait=wait)
