"""`orchestrator subscribers`: add, list, change, pause, test, replay to and delete subscribers."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import replays
from orchestrator.cli.batch import Yes, confirm
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Failure
from orchestrator.cli.filter_options import EventBody, Filter, Ordered, filter_fields, json_object
from orchestrator.cli.lookup import DELIVERY, EVENT, SUBSCRIBER, find
from orchestrator.cli.options import After, Limit, seconds, words
from orchestrator.cli.replays import DryRun, Rate, Since, Types, Until, Wait, Wish
from orchestrator.cli.retry_options import RetryDeadline, RetryFinal, RetrySchedule, retry_field
from orchestrator.cli.subscriber_options import (
    Credentials,
    Description,
    Headers,
    InFlight,
    Kind,
    NewRateLimit,
    Options,
    RateLimit,
    SubscriberId,
    fields,
    kind_and_url,
    rate_field,
)
from orchestrator.cli.subscriber_record import TABLE, shown
from orchestrator.cli.subscriber_test import exchange, first_attempt, outcome, patience_for
from orchestrator.cli.terminal import Record, moment
from orchestrator.schemas import (
    ChangedSubscriber,
    Explanation,
    NewSubscriber,
    RotatedSubscriber,
    Subscriber,
    TestEvent,
)

app = typer.Typer(no_args_is_help=True, help="Who gets events.")


@command(
    app, "add", "orchestrator subscribers add https://my.app/hook --types job.succeeded,job.failed"
)
def add(
    session: Session,
    url: Annotated[
        str, typer.Argument(help="Where to send; slack:https://... is --kind slack https://...")
    ],
    kind: Kind = None,
    types: Types = None,
    description: Description = None,
    headers: Headers = None,
    options: Options = None,
    credentials: Credentials = None,
    rate_limit: RateLimit = None,
    max_in_flight: InFlight = None,
    wanted: Filter = None,
    ordered: Ordered = None,
    retry_schedule: RetrySchedule = None,
    retry_deadline: RetryDeadline = None,
    retry_final: RetryFinal = None,
) -> None:
    """Add a subscriber. Its signing secret is shown once, now: -q prints it below the id.

    The kind shows in most addresses. A credential in a file or in the environment stays out of the
    shell's history: `--credential token=@FILE`, or `--credential token` with CREDENTIAL_TOKEN.
    """
    given = fields(
        **kind_and_url(kind, url),
        types=words(types),
        description=description,
        headers=headers,
        options=options,
        credentials=credentials,
        rate_limit=rate_limit,
        max_in_flight=max_in_flight,
        **filter_fields(wanted, ordered),
        **retry_field(retry_schedule, retry_deadline, retry_final),
    )
    with session.client() as client:
        made = client.post(NewSubscriber, SUBSCRIBER.path, given)
    session.terminal.record(made, shown(made) | {"secret": made.secret})
    if session.terminal.quiet and not session.terminal.json:
        session.terminal.say(made.secret or "")
    if made.secret and not session.terminal.json:
        session.terminal.notice(
            "the secret is not shown again; verify deliveries with a Standard Webhooks library"
        )


@command(app, "ls", "orchestrator subscribers ls --json")
def ls(
    session: Session,
    callbacks: Annotated[
        bool, typer.Option("--callbacks", help="The hosts of jobs' callback URLs instead.")
    ] = False,
    failing: Annotated[bool, typer.Option("--failing", help="Only those that fail now.")] = False,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List subscribers, newest first."""
    chosen = {"callbacks": callbacks or None, "failing": failing or None}
    with session.client() as client:
        page = client.get(SUBSCRIBER.page, SUBSCRIBER.path, **chosen, limit=limit, after=after)
    session.terminal.listing(page, TABLE)


@command(app, "show", "orchestrator subscribers show sub_01m7x")
def show(session: Session, subscriber: SubscriberId) -> None:
    """Show one subscriber and its last delivery."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        if session.terminal.json or session.terminal.quiet:
            session.terminal.record(found, {})
            return
        last = client.get(DELIVERY.page, DELIVERY.path, subscriber=found.id, limit=1).data
    delivered = f"{last[0].id} {outcome(last[0])}" if last else "none yet"
    session.terminal.record(found, shown(found) | {"last delivery": delivered})


@command(app, "update", "orchestrator subscribers update sub_01m7x --types 'job.*' --rate-limit 5")
def update(
    session: Session,
    subscriber: SubscriberId,
    url: Annotated[str | None, typer.Option(help="Where to send from now on.")] = None,
    types: Types = None,
    description: Description = None,
    headers: Headers = None,
    options: Options = None,
    credentials: Credentials = None,
    rate_limit: NewRateLimit = None,
    max_in_flight: InFlight = None,
    wanted: Filter = None,
    ordered: Ordered = None,
    retry_schedule: RetrySchedule = None,
    retry_deadline: RetryDeadline = None,
    retry_final: RetryFinal = None,
) -> None:
    """Change a subscriber. Fields not given stay.

    `--header`, `--option` and `--credential` replace all of theirs. A URL with another origin drops
    the stored headers and credentials, unless new ones are given.
    """
    given = fields(
        url=url,
        types=words(types),
        description=description,
        headers=headers,
        options=options,
        credentials=credentials,
        max_in_flight=max_in_flight,
    )
    given |= filter_fields(wanted, ordered) | rate_field(rate_limit)
    retry = retry_schedule, retry_deadline, retry_final
    if not given | retry_field(*retry):
        raise typer.BadParameter("nothing to change was given: --url, --types, --description, ...")
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        given |= retry_field(*retry, found.retry)
        answer = client.send("PATCH", f"{SUBSCRIBER.path}/{found.id}", body=given)
        changed = client.read(ChangedSubscriber, answer.document)
    session.terminal.record(changed, shown(changed))
    if changed.dropped:
        session.terminal.notice(
            f"dropped, since the new address has another origin: {', '.join(changed.dropped)};"
            " give --header or --credential again if it may have them"
        )


@command(app, "pause", "orchestrator subscribers pause sub_01m7x")
def pause(session: Session, subscriber: SubscriberId) -> None:
    """Hold a subscriber's deliveries; none is lost."""
    _change(session, subscriber, "pause")


@command(app, "resume", "orchestrator subscribers resume sub_01m7x")
def resume(session: Session, subscriber: SubscriberId) -> None:
    """Resume a paused or disabled subscriber's deliveries, held ones first."""
    _change(session, subscriber, "resume")


@command(app, "rm", "orchestrator subscribers rm sub_01m7x --yes")
def rm(session: Session, subscriber: SubscriberId, yes: Yes = False) -> None:
    """Delete a subscriber. Its pending deliveries are given up."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        if not yes:
            confirm(session.terminal, "delete this subscriber?", [f"{found.id} {found.url}"])
        client.send("DELETE", f"{SUBSCRIBER.path}/{found.id}")
    session.terminal.record({"id": found.id, "deleted": True}, {"deleted": found.id})


@command(app, "rotate-secret", "orchestrator subscribers rotate-secret sub_01m7x --grace 24h")
def rotate_secret(
    session: Session,
    subscriber: SubscriberId,
    grace: Annotated[
        str, typer.Option(help="How long the old secret signs too: 0, 90s, 24h, 7d.")
    ] = "24h",
) -> None:
    """Rotate a subscriber's signing secret. It is shown once; both sign until the grace ends."""
    body = {"grace_seconds": seconds("--grace", grace)}
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        path = f"{SUBSCRIBER.path}/{found.id}/rotate-secret"
        made = client.post(RotatedSubscriber, path, body)
    if session.terminal.json:
        session.terminal.document(made)
        return
    session.terminal.say(made.secret)
    ends = moment(made.previous_expires_at)
    session.terminal.notice(f"not shown again; the old secret signs too until {ends} UTC")


@command(app, "test", "orchestrator subscribers test sub_01m7x")
def send_test(
    session: Session,
    subscriber: SubscriberId,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the answer.")] = False,
) -> None:
    """Send a subscriber a test event, show what was sent and answered; exit 1 if refused."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        sent = client.post(TestEvent, f"{SUBSCRIBER.path}/{found.id}/test")
        if no_wait:
            session.terminal.record(
                sent, {"event": sent.id, "see": f"deliveries ls --event {sent.id}"}
            )
            return
        delivery = first_attempt(client, sent.id, patience_for(found))
    session.terminal.record(delivery, exchange(delivery))
    if delivery.status != "delivered":
        hint = (
            f"`orchestrator subscribers resume {found.id}`"
            if delivery.status == "held"
            else f"`orchestrator deliveries show {delivery.id}`;"
            " it is retried like any other delivery"
        )
        raise Failure("the subscriber did not accept it", hint=hint)


@command(app, "explain", "orchestrator subscribers explain sub_01m7x evt_01m7x")
def explain(
    session: Session,
    subscriber: SubscriberId,
    event: Annotated[
        str | None, typer.Argument(metavar="EVT", help="An event's id, or the beginning of one.")
    ] = None,
    body: EventBody = None,
) -> None:
    """Explain whether a subscriber receives an event, by its types, its filter and its state."""
    if (event is None) is (body is None):
        raise typer.BadParameter("give the id of an event, or --body")
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        question: Record = (
            {"body": json_object("--body", body)}
            if body is not None
            else {"event": find(client, EVENT, str(event)).id}
        )
        answer = client.post(Explanation, f"{SUBSCRIBER.path}/{found.id}/explain", question)
    facts: Record = {"receives it": "yes" if answer.matches else "no", "why": answer.reason}
    session.terminal.record(answer, facts | {"in the filter": answer.pointer})


@command(app, "replay", "orchestrator subscribers replay sub_01m7x --since 1d --missed --dry-run")
def replay(
    session: Session,
    subscriber: SubscriberId,
    status: Annotated[str, typer.Option(help="pending, held, delivered or dead.")] = "dead",
    since: Since = None,
    until: Until = None,
    missed: Annotated[
        bool, typer.Option("--missed", help="Events from before it was added.")
    ] = False,
    types: Types = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
) -> None:
    """Send a subscriber again what did not arrive. Counts it first and asks."""
    wish = Wish(subscriber, status, since, until, types, missed, rate)
    replays.run(session, wish, dry_run=dry_run, yes=yes, wait=wait)


def _change(session: Session, subscriber: str, verb: str) -> None:
    """Change a subscriber by one call and show it."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        changed = client.post(Subscriber, f"{SUBSCRIBER.path}/{found.id}/{verb}")
    session.terminal.record(changed, shown(changed))
