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
from orchestrator.cli.options import ago, seconds
from orchestrator.foundation.signing.standard_webhooks import key_bytes


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "listen", "orchestrator listen --forward-to localhost:3000/hook --events 'job.*'")(
        listen
    )


def listen(
    session: Session,
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Send each event there, signed.")
    ] = None,
    events: Annotated[
        str | None, typer.Option(help="Event types, comma separated; * matches. Default: all.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Begin 90s, 15m, 2h, 30d ago; 0s: now.")] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="EVT", help="Begin with this event.", autocompletion=EVENTS),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="WEBHOOK_SECRET", help="whsec_... to sign with; default: one that is kept."
        ),
    ] = None,
    print_secret: Annotated[
        bool, typer.Option("--print-secret", help="Print that secret and end.")
    ] = False,
    header: Annotated[list[str] | None, typer.Option(metavar="K:V", help="Send this too.")] = None,
) -> None:
    """Follow the log of events, and forward them to a server of yours, until Ctrl-C.

    It resumes where it ended: events from the meantime come first. The place is kept for each
    server, key and --forward-to. The first run begins now.

    Forwarded events are signed like deliveries (Standard Webhooks) and come in order, one at a
    time. A consumer that does not answer is retried; an unsuccessful answer is shown, not
    retried. If this process is killed while an event is being sent, that event is sent again:
    drop duplicates by webhook-id.

    A replay makes no new event. To get one event again, and what followed it: --from EVT.
    """
    session.terminal.streaming = True
    if since is not None and begin is not None:
        raise typer.BadParameter("--since and --from exclude each other")
    if secret is not None:
        key_bytes(secret)
    url = target(forward_to) if forward_to else None
    headers = extra_headers(header or [])
    span = seconds("--since", since) if since is not None else None
    with ExitStack() as stack:
        access = session.access()
        bookmark = stack.enter_context(closing(Bookmark(access.server, access.who, url or "")))
        if print_secret:
            session.terminal.say(secret or bookmark.secret())
            return
        bookmark.lock()
        client = stack.enter_context(session.client())
        forwarder = None
        if url:
            signing = secret or bookmark.secret()
            forwarder = Forwarder(
                url,
                signing,
                headers,
                session.clock,
                lambda words: session.terminal.notice(words, "yellow"),
            )
            stack.enter_context(closing(forwarder))
            session.terminal.notice(
                f"forwarding to {url}, signed with {'the secret given' if secret else signing}"
            )
        known = bookmark.read() if begin is None and span is None else None
        past = ago("--since", since, session.now()) if span and since else None
        Listener(session, client, bookmark, forwarder).run(events, known, begin, past)
