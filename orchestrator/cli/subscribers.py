"""`orchestrator subscribers`: who is told what becomes of jobs: added, looked at, changed."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from orchestrator.cli.columns import fitting
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import SUBSCRIBERS
from orchestrator.cli.jobs import Limit
from orchestrator.cli.lookup import SUBSCRIBER, find
from orchestrator.cli.replays import Types, words
from orchestrator.cli.subscriber_test import outcome
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.foundation.states import FINAL_EVENTS

app = typer.Typer(no_args_is_help=True, help="Who is told what becomes of jobs.")

COLUMNS: Columns = {
    "id": lambda one: one["id"],
    "kind": lambda one: one["kind"],
    "status": lambda one: one["status"],
    "url": lambda one: one["url"],
    "types": lambda one: (
        "final ones" if {*one["types"]} == {*FINAL_EVENTS} else ",".join(one["types"])
    ),
    "description": lambda one: one.get("description") or "",
}
#: In a line of a small terminal the address has room this way.
_NARROW: Columns = {name: COLUMNS[name] for name in ("id", "status", "url", "types")}
_WIDE = 120
SubscriberId = Annotated[
    str,
    typer.Argument(
        metavar="SUB",
        help="A subscriber's id, or the beginning of one.",
        autocompletion=SUBSCRIBERS,
    ),
]
Description = Annotated[str | None, typer.Option(help="What it is for.")]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="K:V", help="Sent with every delivery; may be repeated."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="K=V", help="Of its kind: format=cloudevents."),
]
InFlight = Annotated[int | None, typer.Option(min=1, help="Deliveries at once.")]


@command(
    app, "add", "orchestrator subscribers add https://my.app/hook --types job.succeeded,job.failed"
)
def add(
    session: Session,
    url: Annotated[
        str, typer.Argument(help="Where to send; slack:https://... is --kind slack https://...")
    ],
    kind: Annotated[str | None, typer.Option(help="webhook (the default), slack, ...")] = None,
    types: Types = None,
    description: Description = None,
    headers: Headers = None,
    options: Options = None,
    rate_limit: Annotated[float | None, typer.Option(min=0.01, help="Deliveries a second.")] = None,
    max_in_flight: InFlight = None,
) -> None:
    """Add a subscriber. Its signing secret is shown once, now."""
    prefixed = re.fullmatch(r"([a-z][a-z0-9_]*):(https?://.*)", url)
    body: Record = {
        "kind": kind or (prefixed[1] if prefixed else None),
        "url": prefixed[2] if prefixed else url,
        "types": words(types),
        "description": description,
        "headers": _pairs("--header", headers, ":"),
        "options": _pairs("--option", options, "="),
        "rate_limit": rate_limit,
        "max_in_flight": max_in_flight,
    }
    with session.client() as client:
        given = {name: value for name, value in body.items() if value is not None}
        made: Record = client.call("POST", "/v1/subscribers", body=given).document
    session.terminal.record(made, shown(made))
    if made.get("secret") and not session.terminal.json:
        session.terminal.notice(
            "the secret is not shown again; verify deliveries with a Standard Webhooks library"
        )


@command(app, "ls", "orchestrator subscribers ls --json")
def ls(
    session: Session,
    limit: Limit = 50,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List subscribers, newest first."""
    with session.client() as client:
        envelope: Record = client.get("/v1/subscribers", limit=limit, after=after)
    session.terminal.listing(envelope, fitting(COLUMNS, _NARROW, _WIDE))


@command(app, "show", "orchestrator subscribers show sub_01m7x")
def show(session: Session, subscriber: SubscriberId) -> None:
    """Show one subscriber and what it was last sent."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)
        if session.terminal.json or session.terminal.quiet:
            session.terminal.record(found, {})
            return
        last = client.get("/v1/deliveries", subscriber=found["id"], limit=1)["data"]
    said = {"last delivery": f"{last[0]['id']} {outcome(last[0])}" if last else "none yet"}
    session.terminal.record(found, shown(found) | said)


@command(app, "update", "orchestrator subscribers update sub_01m7x --types 'job.*' --rate-limit 5")
def update(
    session: Session,
    subscriber: SubscriberId,
    url: Annotated[str | None, typer.Option(help="Where to send from now on.")] = None,
    types: Types = None,
    description: Description = None,
    headers: Headers = None,
    options: Options = None,
    rate_limit: Annotated[
        str | None, typer.Option(metavar="N|none", help="Deliveries a second.")
    ] = None,
    max_in_flight: InFlight = None,
) -> None:
    """Change a subscriber. What is not given stays; `--header` and `--option` replace all that were there."""
    body: Record = {
        "url": url,
        "types": words(types),
        "description": description,
        "headers": _pairs("--header", headers, ":"),
        "options": _pairs("--option", options, "="),
        "max_in_flight": max_in_flight,
    }
    given = {name: value for name, value in body.items() if value is not None}
    if rate_limit is not None:
        given["rate_limit"] = _rate(rate_limit)
    if not given:
        raise typer.BadParameter("nothing to change was given: --url, --types, --description, ...")
    changed(session, subscriber, "PATCH", "", given)


def changed(session: Session, subscriber: str, method: str, verb: str, body: Any = None) -> None:
    """Change a subscriber by one call and show it."""
    with session.client() as client:
        found = find(client, SUBSCRIBER, subscriber)["id"]
        answer: Record = client.call(method, f"/v1/subscribers/{found}{verb}", body=body).document
    session.terminal.record(answer, shown(answer))


def _pairs(option: str, given: list[str] | None, between: str) -> dict[str, str] | None:
    """Return `k:v` or `k=v` words as a mapping; None where there are none. Raises typer.BadParameter."""
    pairs: dict[str, str] = {}
    for one in given or []:
        name, found, value = one.partition(between)
        if not (found and name.strip()):
            raise typer.BadParameter(f"{one!r} is not name{between}value", param_hint=option)
        pairs[name.strip()] = value.strip()
    return pairs or None


def _rate(text: str) -> float | None:
    """Return a rate, None for `none`. Raises typer.BadParameter."""
    try:
        return None if text == "none" else float(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a number, nor `none`", param_hint="--rate-limit"
        ) from error


def shown(subscriber: Record) -> Record:
    """Return what people want to know of a subscriber, in order."""
    reason = subscriber.get("disabled_reason")
    options = subscriber.get("options") or {}
    return {
        "id": subscriber["id"],
        "kind": subscriber["kind"],
        "status": subscriber["status"] + (f": {reason}" if reason else ""),
        "failing since": moment(subscriber["failing_since"])
        if subscriber.get("failing_since")
        else None,
        "types": ", ".join(subscriber["types"]),
        "url": subscriber["url"],
        "description": subscriber.get("description"),
        "options": ", ".join(f"{name}={value}" for name, value in options.items()),
        "a second": subscriber.get("rate_limit"),
        "at once": subscriber.get("max_in_flight"),
        "secret": subscriber.get("secret"),
    }
