"""Replays from the command line: counted first, asked about, and followed to their end if told to."""

from __future__ import annotations

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
from orchestrator.cli.jobs import ago
from orchestrator.cli.lookup import SUBSCRIBER, find
from orchestrator.cli.terminal import Record, clean, span
from orchestrator.foundation.clock import rfc3339

#: Seconds between looks at a replay under way.
_LOOKS = 0.5
Since = Annotated[
    str | None, typer.Option(metavar="WHEN", help="From 90s, 15m, 2h, 7d ago, or an RFC 3339 time.")
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Before that; default: now.")]
Types = Annotated[str | None, typer.Option(help="Event types, comma separated; * matches.")]
Rate = Annotated[
    float | None, typer.Option(min=0.01, max=10_000, help="Deliveries made due a second.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until all of it is due again.")]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be replayed, as it was said."""

    subscriber: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    types: str | None = None
    missed: bool = False
    rate: float | None = None

    def body(self, client: Client, now: datetime) -> Record:
        """Return it as the API wants it. Raises `Failure` or typer.BadParameter."""
        body: Record = {
            "subscriber": find(client, SUBSCRIBER, self.subscriber)["id"]
            if self.subscriber
            else None,
            "status": None if self.missed else self.status,
            "since": instant("--since", self.since, now),
            "until": instant("--until", self.until, now),
            "types": words(self.types),
            "missed": self.missed or None,
            "rate": self.rate,
        }
        return {name: value for name, value in body.items() if value is not None}

    def when(self) -> str:
        """Return in words the time it is about."""
        bounds = {"since": self.since, "before": self.until}
        said = (
            f"{word} {text}{'' if 'T' in text.upper() else ' ago'}"
            for word, text in bounds.items()
            if text
        )
        return ", ".join(said) or "of all time"


def instant(option: str, text: str | None, now: datetime) -> str | None:
    """Return an RFC 3339 time for one, or for a span before now. Raises typer.BadParameter."""
    if text is None or "T" in text.upper():
        return text
    return rfc3339(ago(option, text, now))


def words(text: str | None) -> list[str] | None:
    """Return the words of a list with commas; None stays None."""
    return None if text is None else [one.strip() for one in text.split(",") if one.strip()]


def run(session: Session, wish: Wish, *, dry_run: bool, yes: bool, wait: bool) -> None:
    """Count, ask, replay. Raises `Failure` if nobody is there to ask (exit 2)."""
    terminal = session.terminal
    with session.client() as client:
        body = wish.body(client, session.now())
        counted: Record = client.call(
            "POST", "/v1/replays", body={**body, "dry_run": True}
        ).document
        count = counted["count"]
        what = "events it never got" if wish.missed else f"{wish.status} deliveries"
        if dry_run:
            said = {"would be replayed": count, "which": what, "when": wish.when()}
            terminal.record(counted, said, key="count")
            return
        if not yes and count:
            confirm(terminal, f"replay {count} {what} {wish.when()}?", [])
        replay: Record = client.call("POST", "/v1/replays", body=body).document
        if wait:
            try:
                replay = _followed(session, client, replay)
            except KeyboardInterrupt:
                words = f"stopped looking; the server goes on with {replay['id']}"
                raise Failure(words, code=Exit.INTERRUPTED) from None
    terminal.record(replay, shown(replay))
    if replay["status"] == "running" and not terminal.json:
        terminal.notice("the server goes on by itself; --wait stays until it is done")
    if replay["status"] == "canceled":
        raise Failure("the replay was canceled by somebody", code=Exit.CONFLICT)


def _followed(session: Session, client: Client, replay: Record) -> Record:
    """Return a replay once it is over, showing on the way how far it is."""
    began, last, away = time.monotonic(), -1, False
    while replay["status"] == "running":
        if replay["replayed"] != last and not session.terminal.json:
            last = replay["replayed"]
            words = f"{last} of {replay['count']} · {span(time.monotonic() - began)}"
            _progress(session, words)
        time.sleep(_LOOKS)
        try:
            replay = client.get(f"/v1/replays/{replay['id']}")
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


def _progress(session: Session, words: str) -> None:
    """Say how far it is: on a terminal in one line that is written anew."""
    if session.terminal.live:
        sys.stderr.write(f"\r\x1b[K  {clean(words)}")
        sys.stderr.flush()
    else:
        session.terminal.notice(words)


def shown(replay: Record) -> Record:
    """Return what people want to know of a replay."""
    return {
        "id": replay["id"],
        "status": replay["status"],
        "replayed": f"{replay['replayed']} of {replay['count']}",
        "subscriber": replay.get("subscriber") or "all",
        "a second": replay.get("rate"),
    }
