"""`orchestrator listen`: the log on this machine's screen, and on its own server while that is being written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from orchestrator import values
from orchestrator.cli import log
from orchestrator.cli.bookmark import Bookmark
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session, command
from orchestrator.cli.completing import EVENTS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.finding import EVENT, find
from orchestrator.cli.forward import Forwarder, Told, more_headers, target
from orchestrator.cli.jobs import seconds
from orchestrator.cli.terminal import Record, Terminal, moment
from orchestrator.signing import key_bytes

#: What an event of the API has and an event as it is sent has not.
_NOT_SENT = ("object", "job", "source")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "listen", "orchestrator listen --forward-to localhost:3000/hook --events 'job.*'")(listen)


def listen(
    session: Session,
    forward_to: Annotated[str | None, typer.Option(metavar="URL", help="Send each event there, signed.")] = None,
    events: Annotated[str | None, typer.Option(help="Event types, comma separated; * matches. Default: all.")] = None,
    since: Annotated[str | None, typer.Option(help="Begin 90s, 15m, 2h, 30d ago; 0s: now.")] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="EVT", help="Begin with this event.", autocompletion=EVENTS)
    ] = None,
    secret: Annotated[
        str | None, typer.Option(envvar="WEBHOOK_SECRET", help="whsec_... to sign with; default: one that is kept.")
    ] = None,
    print_secret: Annotated[bool, typer.Option("--print-secret", help="Print that secret and end.")] = False,
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
    if since is not None and begin is not None:
        raise typer.BadParameter("--since and --from exclude each other")
    if secret is not None:
        key_bytes(secret)
    url = target(forward_to) if forward_to else None
    headers = more_headers(header or [])
    ago = seconds("--since", since) if since is not None else None
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
            forwarder = Forwarder(url, signing, headers, session.clock, lambda words: _warn(session.terminal, words))
            held.enter_context(closing(forwarder))
            session.terminal.notice(f"forwarding to {url}, signed with {'the secret given' if secret else signing}")
        known = mark.read() if begin is None and ago is None else None
        past = session.now() - timedelta(seconds=ago) if ago else None
        _Listener(session, client, mark, forwarder).run(events, known, begin, past)


def _warn(terminal: Terminal, words: str) -> None:
    terminal.notice(words, "yellow")


@dataclass(slots=True)
class _Listener:
    session: Session
    client: Client
    mark: Bookmark
    forwarder: Forwarder | None
    last: str = ""

    def run(self, types: str | None, known: str | None, begin: str | None, since: datetime | None) -> None:
        """Handle events until Ctrl-C, which is a `Failure` too, or until the server will not have us.

        It begins after the event `known`, with the event `begin`, at the instant `since`, or now.
        """
        try:
            self.last = self._start(known, begin, since)
            self._follow(types, caught=self._told_how_many if known else None)
        except KeyboardInterrupt:
            last = self.mark.read()
            hint = f"the same command goes on after {last}" if last else ""
            raise Failure("stopped", hint=hint, code=Exit.INTERRUPTED) from None

    def _start(self, known: str | None, begin: str | None, since: datetime | None) -> str:
        """Return the place to begin after, kept from now on."""
        if begin is not None:
            first = find(self.client, EVENT, begin)
            self._say(self._listening())
            self._handle(first)
            return str(first["id"])
        if known is not None:
            self._say(f"going on after {known} (--since 0s begins now)")
            return known
        place = log.end(self.client) if since is None else log.since(self.client, since)
        self.mark.keep(place)
        self._say(self._listening())
        return place

    def _listening(self) -> str:
        return f"listening to {self.client.server}; Ctrl-C ends it"

    def _follow(self, types: str | None, caught: Callable[[int], None] | None) -> None:
        count = 0
        for part in log.follow(self.client, self.last, types, self._lost):
            if part.gap:
                self._shout(part.after)
            if part.back:
                caught, count = self._reconnected, 0
            for event in part.events:
                self._handle(event)
            count += len(part.events)
            if part.after != self.last:
                self._keep(part.after)
            if caught and not part.more:
                caught(count)
                caught = None

    def _handle(self, event: Record) -> None:
        told = None
        if self.forwarder:
            sent = {name: value for name, value in event.items() if name not in _NOT_SENT}
            told = self.forwarder.tell(event["id"], values.encode(sent))
        # First on the screen, then in the book: killed in between, it is shown twice rather than never.
        self._show(event, told)
        self._keep(event["id"])

    def _keep(self, event_id: str) -> None:
        self.mark.keep(event_id)
        self.last = event_id

    def _show(self, event: Record, told: Told | None) -> None:
        terminal = self.session.terminal
        if terminal.quiet:
            terminal.say(event["id"])
        elif terminal.json:
            answer = {"status": told.status, "ms": told.ms, "error": told.error or None} if told else None
            terminal.line(event | ({"forwarded": answer} if answer else {}))
        else:
            at = moment(event["timestamp"])
            said = f"{at} " if at[:10] != str(self.session.now())[:10] else f"{at[11:]} "
            about = event["job"] or event["data"].get("id") or event["data"].get("name") or "-"
            line: list[str | tuple[str, str]] = [(said, "dim"), f" {event['type']:<14}  {about}"]
            if told:
                line += ["  -> ", (told.words, "green" if told.ok else "bold red"), f"  {told.ms} ms"]
            terminal.styled(*line)

    def _say(self, words: str) -> None:
        self.session.terminal.notice(words, "dim")

    def _lost(self, failure: Failure) -> None:
        _warn(self.session.terminal, f"{failure.message}; trying again until it answers")

    def _told_how_many(self, count: int) -> None:
        self._say(f"caught up {_events(count)}" if count else "nothing happened meanwhile")

    def _reconnected(self, count: int) -> None:
        self._say(f"reconnected, caught up {_events(count)}" if count else "reconnected, nothing was missed")

    def _shout(self, after: str) -> None:
        words = "STREAM GAP: events between this place and the beginning of the log are deleted and were not seen"
        self.session.terminal.notice(f"{words}; going on after {after}", "bold white on red")


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
