"""Replays: counted, confirmed, and followed to their end with `--wait`."""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from orchestrator.cli.batch import confirm
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.lookup import SUBSCRIBER, find
from orchestrator.cli.options import instant, words
from orchestrator.cli.terminal import Record, one_line, span
from orchestrator.schemas import Replay, ReplayCount

#: Seconds between reads of a running replay.
_LOOKS = 0.5
Since = Annotated[
    str | None, typer.Option(metavar="WHEN", help="From 90s, 15m, 2h, 7d ago, or an RFC 3339 time.")
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Before that; default: now.")]
Types = Annotated[str | None, typer.Option(help="Event types, comma separated; * matches.")]
Rate = Annotated[
    float | None, typer.Option(min=0.01, max=10_000, help="Deliveries made due per second.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all of it is due again.")]


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of a replay."""

    subscriber: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    types: str | None = None
    missed: bool = False
    rate: float | None = None

    def body(self, client: Client, now: datetime) -> Record:
        """Return the request's body. Raises `Failure` or `typer.BadParameter`."""
        subscriber = find(client, SUBSCRIBER, self.subscriber).id if self.subscriber else None
        body: Record = {
            "subscriber": subscriber,
            "status": None if self.missed else self.status,
            "since": instant("--since", self.since, now),
            "until": instant("--until", self.until, now),
            "types": words(self.types),
            "missed": self.missed or None,
            "rate": self.rate,
        }
        return {name: value for name, value in body.items() if value is not None}

    @property
    def when(self) -> str:
        """The time span, as text."""
        bounds = {"since": self.since, "before": self.until}
        parts = (
            f"{word} {text}{'' if 'T' in text.upper() else ' ago'}"
            for word, text in bounds.items()
            if text
        )
        return ", ".join(parts) or "of all time"


def run(session: Session, wish: Wish, *, dry_run: bool, yes: bool, wait: bool) -> None:
    """Count, ask, replay. Raises `Failure` without a terminal to ask on (exit 2)."""
    terminal = session.terminal
    with session.client() as client:
        body = wish.body(client, session.now())
        counted = client.post(ReplayCount, "/v1/replays", {**body, "dry_run": True})
        what = "events it never got" if wish.missed else f"{wish.status} deliveries"
        if dry_run:
            shown = {"would be replayed": _many(counted), "which": what, "when": wish.when}
            terminal.record(counted, shown, key="count")
            return
        if not yes and counted.count:
            confirm(terminal, f"replay {_many(counted)} {what} {wish.when}?", [])
        again = "GET /v1/replays lists it if it was"
        key = secrets.token_urlsafe(24)
        replay = client.order(Replay, "/v1/replays", key, again, body)
        if wait:
            try:
                replay = _followed(session, client, replay)
            except KeyboardInterrupt:
                raise Failure(
                    f"stopped waiting; the server goes on with {replay.id}", code=Exit.INTERRUPTED
                ) from None
    terminal.record(
        replay,
        {
            "id": replay.id,
            "status": replay.status,
            "replayed": f"{replay.replayed} of {_many(replay)}",
            "subscriber": replay.subscriber or "all",
            "per second": replay.rate,
        },
    )
    if replay.status == "running" and not terminal.json:
        terminal.notice("the server goes on by itself; --wait waits until it is done")
    if replay.status == "canceled":
        raise Failure("the replay was canceled", code=Exit.CONFLICT)


def _followed(session: Session, client: Client, replay: Replay) -> Replay:
    """Return a replay once it has ended; its progress is shown on the way."""
    began, last, away = time.monotonic(), -1, False
    while replay.status == "running":
        if replay.replayed != last and not session.terminal.json:
            last = replay.replayed
            _progress(session, f"{last} of {_many(replay)} · {span(time.monotonic() - began)}")
        time.sleep(_LOOKS)
        try:
            replay = client.get(Replay, f"/v1/replays/{replay.id}")
        except Failure as failure:
            if failure.later is None:
                raise
            if not away:
                _progress(session, f"{failure.message}; trying again until it answers")
            away = True
            time.sleep(failure.later)
        else:
            away = False
    if session.terminal.live:
        sys.stderr.write("\r\x1b[K")
    return replay


def _many(counted: ReplayCount | Replay) -> str:
    return f"{'more than ' * counted.count_is_capped}{counted.count}"


def _progress(session: Session, words: str) -> None:
    """Show progress, on a terminal in one line that is redrawn."""
    if session.terminal.live:
        sys.stderr.write(f"\r\x1b[K  {one_line(words)}")
        sys.stderr.flush()
    else:
        session.terminal.notice(words)
