"""`orchestrator listen`: the event log on the screen, and forwarded to a local server."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import EVENTS
from orchestrator.cli.listen.bookmark import Bookmark
from orchestrator.cli.listen.forward import Forwarder, extra_headers, target
from orchestrator.cli.listen.listener import Listener
from orchestrator.cli.options import ago, check_secret, seconds

ForwardTo = Annotated[
    str | None, typer.Option(metavar="URL", help="Send each event there, signed.")
]
EventTypes = Annotated[
    str | None, typer.Option(help="Event types, comma separated; * matches. Default: all.")
]
Begin = Annotated[
    str | None,
    typer.Option("--from", metavar="EVT", help="Begin with this event.", autocompletion=EVENTS),
]
Secret = Annotated[
    str | None,
    typer.Option(
        envvar="WEBHOOK_SECRET", help="whsec_... to sign with; default: one that is kept."
    ),
]
PrintSecret = Annotated[bool, typer.Option("--print-secret", help="Print that secret and end.")]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "listen", "orchestrator listen --forward-to localhost:3000/hook --events 'job.*'")(
        listen
    )


def listen(
    session: Session,
    forward_to: ForwardTo = None,
    events: EventTypes = None,
    since: Annotated[str | None, typer.Option(help="Begin 90s, 15m, 2h, 30d ago; 0s: now.")] = None,
    begin: Begin = None,
    secret: Secret = None,
    print_secret: PrintSecret = False,
    header: Annotated[list[str] | None, typer.Option(metavar="K:V", help="Send this too.")] = None,
) -> None:
    """Follow the log of events, and forward them to a server of yours, until Ctrl-C.

    It resumes where it ended, for each server, key and --forward-to. The first run begins now.

    Forwarded events are signed like deliveries (Standard Webhooks) and come in order, one at a
    time. A consumer that does not answer is retried; an unsuccessful answer is only shown. An event
    in flight during a kill is sent again: drop duplicates by webhook-id.

    A replay makes no new event. To get one event again, and what followed it: --from EVT.
    """
    session.terminal.streaming = True
    if since is not None and begin is not None:
        raise typer.BadParameter("--since and --from exclude each other")
    if secret := (secret or "").strip() or None:
        check_secret("--secret", secret)
    url, headers = forward_to and target(forward_to), extra_headers(header or [])
    span = None if since is None else seconds("--since", since)
    with ExitStack() as stack:
        bookmark = stack.enter_context(closing(Bookmark(session.access(), url or "")))
        if print_secret:
            session.terminal.say(secret or bookmark.secret())
            return
        bookmark.lock()
        client = stack.enter_context(session.client())
        forwarder = _forwarder(session, url, headers, secret, bookmark) if url else None
        if forwarder:
            stack.enter_context(closing(forwarder))
        known = bookmark.read() if begin is None and span is None else None
        past = ago("--since", since, session.now()) if span and since else None
        Listener(session, client, bookmark, forwarder).run(events, known, begin, past)


def _forwarder(
    session: Session, url: str, headers: dict[str, str], secret: str | None, bookmark: Bookmark
) -> Forwarder:
    signing = secret or bookmark.secret()
    with_ = "the secret given" if secret else signing
    session.terminal.notice(f"forwarding to {url}, signed with {with_}")

    def notice(words: str) -> None:
        session.terminal.notice(words, "yellow")

    return Forwarder(url, signing, headers, session.clock, notice)
