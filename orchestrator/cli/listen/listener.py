"""Follows the log across outages: shows each event, forwards it, and keeps the place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli import log
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.listen.bookmark import Bookmark
from orchestrator.cli.listen.forward import Forwarded, Forwarder
from orchestrator.cli.lookup import EVENT, find
from orchestrator.cli.terminal import counted, moment
from orchestrator.foundation import json_codec
from orchestrator.schemas import LoggedEvent, document

#: Seconds after an outage in which another one counts as the same.
_SETTLING = 5.0
#: Fields of an event in the API that a delivery does not have.
_NOT_SENT = ("object", "job", "source")


@dataclass(slots=True)
class Listener:
    """One run of `listen`."""

    session: Session
    client: Client
    bookmark: Bookmark
    forwarder: Forwarder | None
    last: str = ""
    #: The monotonic time until which an outage counts as the one that has just ended.
    settled: float = 0.0

    def run(
        self, types: str | None, known: str | None, begin: str | None, since: datetime | None
    ) -> None:
        """Handle events until Ctrl-C, which is a `Failure` too, or until the server refuses.

        It begins after the event `known`, with the event `begin`, at the instant `since`, or now.
        """
        try:
            self.last = self._start(known, begin, since)
            self._follow(types, caught_up=self._caught_up if known else None)
        except KeyboardInterrupt:
            last = self.bookmark.read()
            hint = f"the same command goes on after {last}" if last else ""
            raise Failure("stopped", hint=hint, code=Exit.INTERRUPTED) from None

    def _start(self, known: str | None, begin: str | None, since: datetime | None) -> str:
        """Return the first cursor; it is kept."""
        listening = f"listening to {self.client.server}; Ctrl-C ends it"
        if begin is not None:
            first = find(self.client, EVENT, begin)
            self._notice(listening)
            self._handle(first)
            return first.id
        if known is not None:
            self._notice(f"going on after {known} (--since 0s begins now)")
            return known
        cursor = log.end(self.client) if since is None else log.since(self.client, since)
        self.bookmark.keep(cursor)
        self._notice(listening)
        return cursor

    def _follow(self, types: str | None, caught_up: Callable[[int], None] | None) -> None:
        count = 0
        for batch in log.follow(self.client, self.last, types, self._unreachable):
            if batch.gap:
                self.session.terminal.notice(
                    "STREAM GAP: events between this place and the beginning of the log are"
                    f" deleted and were not seen; going on after {batch.after}",
                    "bold white on red",
                )
            if batch.back:
                caught_up, count = self._reconnected, 0
            for event in batch.events:
                self._handle(event)
            count += len(batch.events)
            if batch.after != self.last:
                self._keep(batch.after)
            if caught_up and not batch.more:
                caught_up(count)
                caught_up = None

    def _handle(self, event: LoggedEvent) -> None:
        forwarded = None
        if self.forwarder:
            fields = document(event)
            sent = {name: value for name, value in fields.items() if name not in _NOT_SENT}
            forwarded = self.forwarder.send(event.id, json_codec.encode(sent))
        # Shown before it is kept: a kill in between shows it twice instead of never.
        self._show(event, forwarded)
        self._keep(event.id)

    def _keep(self, event_id: str) -> None:
        self.bookmark.keep(event_id)
        self.last = event_id

    def _show(self, event: LoggedEvent, forwarded: Forwarded | None) -> None:
        terminal = self.session.terminal
        if terminal.quiet:
            terminal.say(event.id)
        elif terminal.json:
            answer = forwarded and {
                "status": forwarded.status,
                "ms": forwarded.ms,
                "error": forwarded.error or None,
            }
            terminal.line(document(event) | ({"forwarded": answer} if answer else {}))
        else:
            at = moment(event.timestamp)
            stamp = f"{at} " if at[:10] != str(self.session.now())[:10] else f"{at[11:]} "
            about = event.job_id or event.data.get("id") or event.data.get("name") or "-"
            line: list[str | tuple[str, str]] = [(stamp, "dim"), f" {event.type:<14}  {about}"]
            if forwarded:
                style = "green" if forwarded.is_accepted else "bold red"
                line += ["  -> ", (forwarded.words, style), f"  {forwarded.ms} ms"]
            terminal.styled(*line)

    def _notice(self, words: str) -> None:
        self.session.terminal.notice(words, "dim")

    def _unreachable(self, failure: Failure) -> None:
        if not self._is_settling:
            self.session.terminal.notice(
                f"{failure.message}; trying again until it answers", "yellow"
            )

    def _caught_up(self, count: int) -> None:
        self._notice(f"caught up {counted(count, 'event')}" if count else "nothing was missed")

    def _reconnected(self, count: int) -> None:
        # Processes behind one address restart one after the other, and a proxy may lead to the
        # old and the new: each cut ends with an answer, and together they are one outage.
        again, self.settled = self._is_settling, time.monotonic() + _SETTLING
        if count or not again:
            what = f"caught up {counted(count, 'event')}" if count else "nothing was missed"
            self._notice(f"reconnected, {what}")

    @property
    def _is_settling(self) -> bool:
        return time.monotonic() < self.settled
