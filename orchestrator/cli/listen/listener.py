"""Events as they come, on the screen and at the consumer, across every outage."""

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
from orchestrator.cli.listen.forward import Forwarder, Told
from orchestrator.cli.lookup import EVENT, find
from orchestrator.cli.terminal import Record, moment
from orchestrator.foundation import json_codec

#: Seconds after an outage in which another one is still the same.
_SETTLING = 5.0
#: What an event of the API has and an event as it is sent has not.
_NOT_SENT = ("object", "job", "source")


@dataclass(slots=True)
class Listener:
    """Follows the log from a place on: shows each event, forwards it if it is to be, and keeps the place."""

    session: Session
    client: Client
    mark: Bookmark
    forwarder: Forwarder | None
    last: str = ""
    #: Where an outage has just ended: the monotonic time until which another one is still the same.
    settled: float = 0.0

    def run(
        self, types: str | None, known: str | None, begin: str | None, since: datetime | None
    ) -> None:
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
            told = self.forwarder.tell(event["id"], json_codec.encode(sent))
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
            answer = (
                {"status": told.status, "ms": told.ms, "error": told.error or None}
                if told
                else None
            )
            terminal.line(event | ({"forwarded": answer} if answer else {}))
        else:
            at = moment(event["timestamp"])
            said = f"{at} " if at[:10] != str(self.session.now())[:10] else f"{at[11:]} "
            about = event["job"] or event["data"].get("id") or event["data"].get("name") or "-"
            line: list[str | tuple[str, str]] = [(said, "dim"), f" {event['type']:<14}  {about}"]
            if told:
                line += [
                    "  -> ",
                    (told.words, "green" if told.ok else "bold red"),
                    f"  {told.ms} ms",
                ]
            terminal.styled(*line)

    def _say(self, words: str) -> None:
        self.session.terminal.notice(words, "dim")

    def _lost(self, failure: Failure) -> None:
        if self._is_settling():
            return
        self.session.terminal.notice(f"{failure.message}; trying again until it answers", "yellow")

    def _told_how_many(self, count: int) -> None:
        self._say(f"caught up {_events(count)}" if count else "nothing happened meanwhile")

    def _reconnected(self, count: int) -> None:
        # Processes behind one address end one after the other, and a proxy may lead to both the old and the new: each
        # cut ends with an answer, and all of it is one outage to who reads this.
        again, self.settled = self._is_settling(), time.monotonic() + _SETTLING
        if count or not again:
            self._say(
                f"reconnected, caught up {_events(count)}"
                if count
                else "reconnected, nothing was missed"
            )

    def _is_settling(self) -> bool:
        return time.monotonic() < self.settled

    def _shout(self, after: str) -> None:
        words = "STREAM GAP: events between this place and the beginning of the log are deleted and were not seen"
        self.session.terminal.notice(f"{words}; going on after {after}", "bold white on red")


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
