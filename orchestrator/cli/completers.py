"""What a shell is offered for ids and names: asked of the server, quickly or not at all."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterable

import typer

from orchestrator.cli.command import Options, Session
from orchestrator.cli.terminal import Record, Terminal

#: Seconds that somebody who pressed Tab waits at most.
_DEADLINE = 0.3
_MOST = 50
Offers = list[tuple[str, str]]


def _offering(
    path: str, offer: Callable[[Record], tuple[str, str]]
) -> Callable[[typer.Context, str], Offers]:
    """Return what completes a word from a list of the server's: offers what begins with it; nothing when in doubt."""

    def complete(ctx: typer.Context, incomplete: str) -> Offers:
        found: Offers = []

        def ask() -> None:
            # Whatever is wrong, a half-typed command line is no place to say it.
            with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
                before = ctx.find_root().params
                options = Options(
                    before.get("server"), before.get("api_key"), before.get("config_file")
                )
                with Session(options, Terminal(quiet=True)).client() as client:
                    found.extend(map(offer, client.get(path, limit=_MOST)["data"]))

        # Not ended when the time is up: it ends with the process, which has nothing else to do.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_DEADLINE)
        return [(word, help_) for word, help_ in list(found) if word.startswith(incomplete)]

    return complete


def among(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes one of some words."""
    known = [str(word) for word in words]
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


JOBS = _offering("/v1/jobs", lambda one: (one["id"], f"{one['status']} {one['model']}"))
EVENTS = _offering("/v1/events", lambda one: (one["id"], one["type"]))
SUBSCRIBERS = _offering("/v1/subscribers", lambda one: (one["id"], one["url"]))
DELIVERIES = _offering(
    "/v1/deliveries", lambda one: (one["id"], f"{one['status']} {one['event_type']}")
)
ACCOUNTS = _offering("/v1/accounts", lambda one: (one["name"], one["vendor"]))
