"""`orchestrator listen`: the log on this machine's screen, and on its own server while that is being written."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import EVENTS
from orchestrator.cli.jobs import ago, seconds
from orchestrator.cli.listen.bookmark import Bookmark
from orchestrator.cli.listen.forward import Forwarder, more_headers, target
from orchestrator.cli.listen.listener import Listener
from orchestrator.cli.terminal import Terminal
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

    It goes on where it was, whatever ended it: what happened meanwhile comes first. The place is kept for each server,
    key and --forward-to. The first time it begins now.

    Forwarded events are signed as deliveries are (Standard Webhooks) and come in order, one at a time. A consumer that
    is not there is waited for; an answer that is no success is shown, and not tried again. If this is killed while an
    event is on its way, that one is sent again: drop repeats by webhook-id.

    A replay makes no new event. To get one event again, and what followed it: --from EVT.
    """
    session.terminal.streaming = True
    if since is not None and begin is not None:
        raise typer.BadParameter("--since and --from exclude each other")
    if secret is not None:
        key_bytes(secret)
    url = target(forward_to) if forward_to else None
    headers = more_headers(header or [])
    span = seconds("--since", since) if since is not None else None
    with ExitStack() as held:
        access = session.access()
        mark = held.enter_context(closing(Bookmark(access.server, access.who, url or "")))
        if print_secret:
            session.terminal.say(secret or mark.secret())
            return
        mark.hold()
        client = held.enter_context(session.client())
        forwarder = None
        if url:
            signing = secret or mark.secret()
            forwarder = Forwarder(
                url, signing, headers, session.clock, lambda words: _warn(session.terminal, words)
            )
            held.enter_context(closing(forwarder))
            session.terminal.notice(
                f"forwarding to {url}, signed with {'the secret given' if secret else signing}"
            )
        known = mark.read() if begin is None and span is None else None
        past = ago("--since", since, session.now()) if span and since else None
        Listener(session, client, mark, forwarder).run(events, known, begin, past)


def _warn(terminal: Terminal, words: str) -> None:
    terminal.notice(words, "yellow")
