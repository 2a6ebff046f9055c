"""`orchestrator accounts`: configured vendors, whether their pushes arrive, and whether they take our credentials."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from orchestrator.cli.client import Client
from orchestrator.cli.columns import fitting
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import ACCOUNTS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.client.requests import path

app = typer.Typer(no_args_is_help=True, help="Configured vendors.")

COLUMNS: Columns = {
    "name": lambda one: one["name"],
    "vendor": lambda one: one["vendor"],
    "in flight": lambda one: one.get("in_flight"),
    "pushes": lambda one: one.get("pushes"),
    "missed": lambda one: one.get("pushes_missed"),
    "polls": lambda one: one.get("polls"),
    "last push": lambda one: moment(one.get("last_push_at")),
    "paused until": lambda one: moment(one.get("paused_until")),
    "capabilities": lambda one: ",".join(one.get("capabilities") or []),
}
#: In a line of a small terminal.
_NARROW: Columns = {
    name: COLUMNS[name] for name in ("name", "in flight", "pushes", "missed", "polls", "last push")
}
_WIDE = 130
CHECKS: Columns = {
    "account": lambda one: one["account"],
    "credentials": lambda one: verdict(one),
    "http": lambda one: one["status"] or "-",
    "ms": lambda one: "-" if one["latency_ms"] is None else one["latency_ms"],
    "clock": lambda one: (
        "-" if one["clock_skew_seconds"] is None else f"{one['clock_skew_seconds']:+g} s"
    ),
    "vendor says": lambda one: said(one) or one["detail"],
}
_LOOKUPS = {
    "by_external_id": "jobs are found by their external id",
    "by_key": "the same request is sent again",
    "none": "only a push can tell",
}
#: Accounts asked at once.
_ABREAST = 8
#: From here on an answer is the vendor's own trouble.
_TROUBLE = 500
Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its name.", autocompletion=ACCOUNTS)]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="ACCOUNT...", help="Names; default: all.", autocompletion=ACCOUNTS),
]


@command(app, "ls", "orchestrator accounts ls")
def ls(session: Session) -> None:
    """List accounts: what is in flight, how many pushes came, and how many had to be asked for."""
    with session.client() as client:
        envelope: Record = client.get("/v1/accounts", limit=200)
    session.terminal.listing(envelope, fitting(COLUMNS, _NARROW, _WIDE))


@command(app, "show", "orchestrator accounts show main")
def show(session: Session, name: Name) -> None:
    """Show one account and how it is doing."""
    with session.client() as client:
        found: Record = client.get(path("accounts", name))
    session.terminal.record(found, shown(found), key="name")


@command(app, "check", "orchestrator accounts check main")
def check(session: Session, names: Names = None) -> None:
    """Ask vendors a harmless question: are they there, and do they take our credentials? Exit 1 if one does not."""
    found = checked(session, names or [])
    envelope: Record = {"object": "list", "data": found, "has_more": False, "next_cursor": None}
    failed = [one["account"] for one in found if is_failed(one)]
    if session.terminal.quiet and not session.terminal.json:
        session.terminal.say("\n".join(failed))
    else:
        session.terminal.listing(envelope, CHECKS, whole="credentials")
    if failed:
        hint = (
            "fix base_url, api_key or whatever the vendor complains of in [accounts.*], and restart"
        )
        raise Failure(
            f"{len(failed)} of {len(found)} accounts failed: {', '.join(failed)}", hint=hint
        )


def checked(session: Session, names: list[str]) -> list[Record]:
    """Return the checks of accounts, all if none is named: asked by the server, or from here while none runs."""
    try:
        with session.client() as client:
            return asked(client, names)
    except Failure as failure:
        if failure.code is not Exit.UNREACHABLE or session.options.server is not None:
            raise
        # Here, so that commands which only talk to a server start without the service.
        from orchestrator.cli.account_check import checks

        settings = session.settings()
        session.terminal.notice(f"no server on port {settings.port}: asking from here")
        return checks(settings, names)


def asked(client: Client, names: list[str]) -> list[Record]:
    """Return what the server found of accounts, in their order."""
    if not names:
        names = [one["name"] for one in client.get("/v1/accounts", limit=200)["data"]]
    with ThreadPoolExecutor(_ABREAST) as pool:
        return [
            *pool.map(
                lambda name: client.call("POST", path("accounts", name, "check")).document, names
            )
        ]


def is_failed(check: Record) -> bool:
    """True for an account that cannot be used now. What an answer leaves open has not failed."""
    return (
        not check["reachable"] or check["authorized"] is False or (check["status"] or 0) >= _TROUBLE
    )


def verdict(check: Record) -> str:
    """Return what a check found, in a word or two."""
    if not check["reachable"]:
        return "not reached"
    words: dict[bool | None, str] = {True: "accepted", False: "REFUSED", None: "unclear"}
    return words[check["authorized"]]


def said(check: Record) -> str:
    """Return the vendor's own words."""
    return ": ".join(
        str(check[key]) for key in ("vendor_code", "vendor_message") if check[key] is not None
    )


def shown(account: Record) -> Record:
    """Return what people want to know of an account, in order."""
    degraded = (
        " (going missing: jobs are asked about instead)" if account.get("pushes_degraded") else ""
    )
    return {
        "name": account["name"],
        "vendor": account["vendor"],
        "capabilities": ", ".join(account["capabilities"]),
        "in flight": f"{account['in_flight']} of {account['max_in_flight']}",
        "a second": account.get("rate_limit"),
        "pushes": f"{account['pushes']}, {account['pushes_missed']} missed{degraded}",
        "last push": moment(account["last_push_at"]),
        "polls": account["polls"],
        "paused until": moment(account["paused_until"]) if account["paused_until"] else None,
        "after a lost answer": _LOOKUPS.get(str(account.get("lookup"))),
    }
