"""`orchestrator accounts`: configured vendors, their push health, and checks of credentials."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from orchestrator.cli.batch import page_of
from orchestrator.cli.client import Client
from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import ACCOUNTS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.latency_bars import histograms
from orchestrator.cli.lookup import ACCOUNT
from orchestrator.cli.terminal import Record, moment
from orchestrator.client.requests import path
from orchestrator.schemas import Account, AccountCheck, Page

app = typer.Typer(no_args_is_help=True, help="Configured vendors.")

TABLE = Table(
    Account,
    "name",
    "vendor",
    "in_flight",
    ("pushes", lambda account: _expected(account, account.pushes)),
    ("missed", lambda account: _expected(account, account.pushes_missed)),
    ("refused", lambda account: refused_count(account)),
    "polls",
    "last_push_at",
    "paused_until",
    "capabilities",
    first=("name", "in flight", "pushes", "missed", "polls", "last push"),
)
CHECKS = Table(
    AccountCheck,
    "account",
    ("credentials", lambda check: verdict(check)),
    ("http", lambda check: check.status or "-"),
    ("ms", "latency_ms"),
    (
        "clock",
        lambda check: (
            "-" if check.clock_skew_seconds is None else f"{check.clock_skew_seconds:+g} s"
        ),
    ),
    ("vendor says", lambda check: vendor_words(check) or check.detail),
)
_LOOKUPS = {
    "by_external_id": "jobs are found by their external id",
    "by_key": "the same request is sent again",
    "none": "only a push can tell",
}
#: Accounts checked at once.
_ABREAST = 8
#: From this status on an answer is the vendor's own trouble.
_TROUBLE = 500
Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its name.", autocompletion=ACCOUNTS)]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="ACCOUNT...", help="Names; default: all.", autocompletion=ACCOUNTS),
]


@command(app, "ls", "orchestrator accounts ls")
def ls(session: Session) -> None:
    """List accounts: jobs in flight, pushes received and missed, polls."""
    with session.client() as client:
        page = every(client)
    session.terminal.listing(page, TABLE)


@command(app, "show", "orchestrator accounts show main")
def show(session: Session, name: Name) -> None:
    """Show one account and its health."""
    with session.client() as client:
        found = client.get(Account, path("accounts", name))
    session.terminal.record(found, shown(found), key="name")
    quiet = session.terminal.json or session.terminal.quiet
    if found.latency and not quiet and (lines := histograms(found)):
        session.terminal.say(
            "from submission to the end, as learned (recent jobs count most):", *lines
        )


@command(app, "check", "orchestrator accounts check main")
def check(session: Session, names: Names = None) -> None:
    """Send vendors a harmless query: do they answer and accept our credentials? Exit 1 if not."""
    checks = _checked(session, names or [])
    failed = [check.account for check in checks if is_failed(check)]
    if session.terminal.quiet and not session.terminal.json:
        session.terminal.say(*failed)
    else:
        session.terminal.listing(page_of(checks), CHECKS, whole="credentials")
        _note_refusals(session, {check.account for check in checks})
    if failed:
        raise Failure(
            f"{len(failed)} of {len(checks)} accounts failed: {', '.join(failed)}",
            hint="fix base_url, api_key or what the vendor complains of in [accounts.*],"
            " and restart",
        )


def _note_refusals(session: Session, names: Collection[str]) -> None:
    """Say which accounts' pushes are refused. A server that is not there knows of none."""
    try:
        with session.client() as client:
            accounts = every(client).data
    except Failure:
        return
    for account in accounts:
        if account.name in names and (found := refusal(account)):
            words, fix = found
            session.terminal.notice(f"{account.name}: {words}; {fix}", "yellow")


def _checked(session: Session, names: list[str]) -> list[AccountCheck]:
    """Return the checks of accounts (default: all), by the server, or from here without one."""
    try:
        with session.client() as client:
            return server_checks(client, names)
    except Failure as failure:
        if failure.code is not Exit.UNREACHABLE or session.options.server is not None:
            raise
        # Here: commands that only call a server start without the service.
        from orchestrator.cli.account_check import checks

        settings = session.settings()
        session.terminal.notice(f"no server on port {settings.port}: asking from here")
        return checks(settings, names)


def every(client: Client) -> Page[Account]:
    """Return all accounts."""
    return client.get(ACCOUNT.page, ACCOUNT.path, limit=200)


def server_checks(client: Client, names: list[str]) -> list[AccountCheck]:
    """Return the server's checks of accounts (default: all), in their order."""
    names = names or [account.name for account in every(client).data]

    def check(name: str) -> AccountCheck:
        return client.post(AccountCheck, path("accounts", name, "check"))

    with ThreadPoolExecutor(_ABREAST) as pool:
        return [*pool.map(check, names)]


def refused_count(account: Account) -> int:
    """Return how many pushes were refused for their signature."""
    refused = account.pushes_refused
    return refused.unsigned + refused.stale + refused.mismatched if refused else 0


def refusal(account: Account) -> tuple[str, str] | None:
    """Return what is wrong with the signatures of an account's pushes, and how to fix it.

    None if none was refused, or one has been accepted since.
    """
    refused, accepted = account.pushes_refused, account.last_push_at
    if refused is None or refused.last_at is None or (accepted and accepted > refused.last_at):
        return None
    secrets = f"put the vendor's signing secret into accounts.{account.name}.webhook_secrets"
    reasons = {
        "no signature matches": (refused.mismatched, secrets),
        "they have no signature": (
            refused.unsigned,
            f'set accounts.{account.name}.signature to "none" if the vendor does not sign',
        ),
        "their timestamp is too old or too new": (refused.stale, "set this machine's clock by NTP"),
    }
    found = {why: (count, fix) for why, (count, fix) in reasons.items() if count}
    words = ", ".join(f"{count}: {why}" for why, (count, _) in found.items())
    if len(found) == 1:
        words = next(iter(found))
    fix = max(found.values())[1]
    came = f"{refused_count(account)} pushes came and were refused: {words}"
    return f"{came}; the last {moment(refused.last_at)}", fix


def is_failed(check: AccountCheck) -> bool:
    """True for an account that cannot be used now. An unclear answer is no failure."""
    return not check.reachable or check.authorized is False or (check.status or 0) >= _TROUBLE


def verdict(check: AccountCheck) -> str:
    """Return whether the vendor accepts the credentials, in a word or two."""
    if not check.reachable:
        return "not reached"
    words: dict[bool | None, str] = {True: "accepted", False: "REFUSED", None: "unclear"}
    return words[check.authorized]


def vendor_words(check: AccountCheck) -> str:
    """Return the vendor's own code and message."""
    words = (check.vendor_code, check.vendor_message)
    return ": ".join(str(word) for word in words if word is not None)


def held(account: Account) -> str | None:
    """Return why the jobs of an account wait, and what ends it; None if they do not."""
    if (hold := account.held) is None:
        return None
    looks = f"; looked at again {moment(hold.next_check_at)}" if hold.next_check_at else ""
    return f"{hold.reason} since {moment(hold.since)}: {hold.message}{looks}"


def shown(account: Account) -> Record:
    """Return the fields of an account to display, in order."""
    degraded = " (going missing: jobs are polled instead)" if account.pushes_degraded else ""
    return {
        "name": account.name,
        "vendor": account.vendor,
        "capabilities": ", ".join(account.capabilities),
        "in flight": f"{account.in_flight} of {account.max_in_flight}",
        "per second": account.rate_limit,
        "pushes": f"{account.pushes}, {account.pushes_missed} missed{degraded}"
        if account.expects_pushes or account.pushes
        else "none: this vendor pushes nothing, its jobs are polled",
        "refused": (refusal(account) or (None,))[0],
        "last push": moment(account.last_push_at) if account.expects_pushes else None,
        "polls": _polls(account),
        "push loss": None if account.push_loss is None else f"{100 * account.push_loss:.1f} %",
        "paused until": moment(account.paused_until) if account.paused_until else None,
        "held": held(account),
        "after a lost answer": _after_lost_answer(account),
    }


def _expected(account: Account, count: int) -> int | str:
    """Return a count of pushes; `-` where the vendor sends none."""
    return count if count or account.expects_pushes else "-"


def _after_lost_answer(account: Account) -> str | None:
    if account.lookup == "none" and not account.expects_pushes:
        return "nothing can tell what became of it; on_lost_submit decides"
    return _LOOKUPS.get(account.lookup)


def _polls(account: Account) -> str:
    if account.polls_per_job is None:
        return str(account.polls)
    saved = f", {account.polls_saved} saved" if account.polls_saved else ""
    return f"{account.polls}, lately {account.polls_per_job:g} a job{saved}"
