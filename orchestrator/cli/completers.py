"""Shell completion of ids and names: asked of the server, within a short deadline.

A shell evaluates what a completion prints, and typer leaves `\\` unescaped for zsh. So a candidate
is offered only in the strict form of an id or a name, and its help is a word of our enumerations:
text of callers, vendors or another server never reaches the shell.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar, cast

import typer
from pydantic import BaseModel

from orchestrator.cli.command import Options, Session
from orchestrator.cli.lookup import ACCOUNT, DELIVERY, DESTINATION, EVENT, JOB, SUBSCRIBER, Kind
from orchestrator.cli.terminal import Terminal
from orchestrator.foundation.ids import is_id

RowT = TypeVar("RowT", bound=BaseModel)

#: Seconds that Tab waits at most.
_DEADLINE = 0.3
_MOST = 50
#: A name that a shell takes for neither an option nor syntax.
_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]{0,63}")
_MODEL = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}")
Offer = tuple[str, str]


def _completer(
    kind: Kind[RowT], offer: Callable[[RowT], tuple[str, object]]
) -> Callable[[typer.Context, str], list[Offer]]:
    """Return a completer that offers rows of a list; nothing if the server does not answer."""

    def is_ours(word: str) -> bool:
        return is_id(word, kind.prefix) if kind.prefix else bool(_NAME.fullmatch(word))

    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        offers = [offer(row) for row in _rows(ctx, kind)]
        return [
            # A word that is not of the enumeration is a plain `str`: see `schemas.base.OpenEnum`.
            (word, str(help_) if isinstance(help_, StrEnum) else "")
            for word, help_ in offers
            if word.startswith(incomplete) and is_ours(word)
        ]

    return complete


def _rows(ctx: typer.Context, kind: Kind[RowT]) -> list[RowT]:
    """Return rows of a list; none if the server does not answer in time."""
    found: list[RowT] = []

    def ask() -> None:
        # Errors are dropped: a half-typed command line is no place for them.
        with contextlib.suppress(Exception):
            options = Options.of(cast(typer.Context, ctx.find_root()))
            with Session(options, Terminal(quiet=True)).client() as client:
                found.extend(client.get(kind.page, kind.path, limit=_MOST).data)

    # Not stopped at the deadline: it ends with the process, which only completes.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_DEADLINE)
    return list(found)


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a model: those that are known for `--account`, or for any account."""
    account = ctx.params.get("account")
    known = {
        name
        for row in _rows(ctx, ACCOUNT)
        for names in row.models.values()
        for name in names
        if account in (None, row.name)
    }
    return sorted(name for name in known if name.startswith(incomplete) and _MODEL.fullmatch(name))


def among(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completer of fixed words."""
    known = [str(word) for word in words]
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


JOBS = _completer(JOB, lambda job: (job.id, job.status))
EVENTS = _completer(EVENT, lambda event: (event.id, event.type))
SUBSCRIBERS = _completer(SUBSCRIBER, lambda subscriber: (subscriber.id, subscriber.status))
DELIVERIES = _completer(DELIVERY, lambda delivery: (delivery.id, delivery.status))
KINDS = _completer(DESTINATION, lambda destination: (destination.kind, ""))
ACCOUNTS = _completer(ACCOUNT, lambda account: (account.name, ""))
