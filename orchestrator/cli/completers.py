"""Shell completion of ids and names: asked of the server, within a short deadline."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import typer
from pydantic import BaseModel

from orchestrator.cli.command import Options, Session
from orchestrator.cli.lookup import ACCOUNT, DELIVERY, EVENT, JOB, SUBSCRIBER, Kind
from orchestrator.cli.terminal import Terminal

RowT = TypeVar("RowT", bound=BaseModel)

#: Seconds that Tab waits at most.
_DEADLINE = 0.3
_MOST = 50
Offers = list[tuple[str, str]]


def _completer(
    kind: Kind[RowT], offer: Callable[[RowT], tuple[str, str]]
) -> Callable[[typer.Context, str], Offers]:
    """Return a completer that offers rows of a list; nothing if the server does not answer."""

    def complete(ctx: typer.Context, incomplete: str) -> Offers:
        found: Offers = []

        def ask() -> None:
            # Errors are dropped: a half-typed command line is no place for them.
            with contextlib.suppress(Exception):
                before = ctx.find_root().params
                options = Options(
                    before.get("server"), before.get("api_key"), before.get("config_file")
                )
                with Session(options, Terminal(quiet=True)).client() as client:
                    found.extend(map(offer, client.get(kind.page, kind.path, limit=_MOST).data))

        # Not stopped at the deadline: it ends with the process, which only completes.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_DEADLINE)
        return [(word, help_) for word, help_ in list(found) if word.startswith(incomplete)]

    return complete


def among(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completer of fixed words."""
    known = [str(word) for word in words]
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


JOBS = _completer(JOB, lambda job: (job.id, f"{job.status} {job.model}"))
EVENTS = _completer(EVENT, lambda event: (event.id, event.type))
SUBSCRIBERS = _completer(SUBSCRIBER, lambda sub: (sub.id, sub.url))
DELIVERIES = _completer(DELIVERY, lambda row: (row.id, f"{row.status} {row.event_type}"))
ACCOUNTS = _completer(ACCOUNT, lambda account: (account.name, account.vendor))
