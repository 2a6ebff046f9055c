"""What can be seen on this machine alone: settings, database, folder, keys, and vendors while no server runs."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from orchestrator import app
from orchestrator.cli.access import secret_keys
from orchestrator.cli.account_check import checks as asked
from orchestrator.cli.accounts import is_failed, said, verdict
from orchestrator.cli.doctor.findings import Check, Finding, Status, ok, problem, warning
from orchestrator.cli.terminal import Record
from orchestrator.database import backend, schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite.engine import opened
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import NO_KEYS, Settings, key_file
from orchestrator.vendors import registry

#: Bytes free on the disk: with less than the first the database soon takes no writes, the second is a reason to look.
_TIGHT, _LOW = 100 << 20, 1 << 30
#: What stands in documents and examples, ours and others': everybody has it.
_SHARED = {
    "newest", "older still accepted", "a long random text", "the same long random text everywhere", "changeme",
    "change-me", "change me", "secret", "secret-key", "your-secret-key", "password", "example", "orchestrator",
}  # fmt: skip
#: Different characters that a random text has at the least.
_VARIED = 10
#: Seconds that a vendor's clock may be apart from ours.
_APART = 30.0


def checks(settings: Settings, clock: Clock) -> list[Check]:
    """Return the checks of this machine."""
    return [
        ("configuration", partial(_configuration, settings, clock)),
        ("database", partial(_database, settings)),
        ("data folder", partial(_folder, settings)),
        ("secret keys", partial(_secret_keys, settings)),
        ("roles", partial(_roles, settings)),
    ]


def _configuration(settings: Settings, clock: Clock) -> Iterator[Finding]:
    faults = []
    for name, account in registry.accounts(settings).items():
        try:
            registry.bind_vendor(account, clock)
        except ConfigError as error:
            faults.append(str(error).removeprefix(f"accounts.{name}: "))
    try:
        AddressPolicy(settings.allow_private)
    except ConfigError as error:
        faults.append(str(error))
    for fault in faults:
        yield problem(
            "configuration", fault, "change that setting; `orchestrator config check` tries again"
        )
    written = sorted({origin for origin in settings.origins().values() if origin != "default"})
    if not faults and not settings.accounts:
        fix = "add [accounts.main]; `orchestrator config init` writes a first file to add it to"
        yield warning("configuration", "no account is configured, so no job can be submitted", fix)
    elif not faults:
        names = ", ".join(sorted(settings.accounts))
        yield ok("configuration", f"reads well from {', '.join(written)}; accounts: {names}")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        # Reads only, and does not take the file's lock: a running server keeps it.
        shown = backend.look(settings.database_url)
    except ConfigError as error:
        fix = "`orchestrator migrate` brings a schema up to date; otherwise change database_url"
        yield problem("database", str(error), fix)
        return
    file = settings.database_file
    if file is not None and not file.exists():
        yield ok("database", f"{shown} is not there yet; the first `orchestrator serve` makes it")
        return
    with (
        postgres.reached(settings.database_url)
        if file is None
        else opened(settings.database_url) as tx
    ):
        revision = schema.current(tx)
    has = (
        f"its schema is the newest, {revision}"
        if revision
        else "it is empty: the first `orchestrator serve` fills it"
    )
    yield ok("database", f"{shown} answers; {has}")


def _folder(settings: Settings) -> Iterator[Finding]:
    file = settings.database_file
    if file is None:
        return
    folder = file.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            "data folder", f"{folder} cannot be written", "give it to the user the server runs as"
        )
        return
    free = shutil.disk_usage(folder).free
    words = f"{folder} can be written, {_size(free)} free"
    if free < _TIGHT:
        yield problem("data folder", words, "make room: a full disk takes no jobs and no pushes")
    elif free < _LOW:
        yield warning(
            "data folder", words, "make room soon; retention_days says how long the past is kept"
        )
    else:
        yield ok("data folder", words)


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"


def _secret_keys(settings: Settings) -> Iterator[Finding]:
    file = None if settings.database_file is None else key_file.beside(settings.database_file)
    keys = secret_keys(settings)
    fix = 'put a fresh one first: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
    if not keys:
        if file is None:
            yield problem("secret keys", NO_KEYS, fix)
        else:
            yield ok(
                "secret keys",
                "none yet; the first `orchestrator serve` makes one beside the database",
            )
        return
    if shared := sum(key.strip().lower() in _SHARED for key in keys):
        words = f"{shared} of {len(keys)} stand in documents for all to read; who has one forges callbacks"
        yield problem("secret keys", words, fix)
    plain = sum(len(set(key)) < _VARIED for key in keys)
    if plain and not shared:
        yield warning("secret keys", f"{plain} of {len(keys)} are no random text", fix)
    risks = [risk for risk in settings.risks() if risk.startswith("secret_keys")]
    for risk in risks:
        yield warning("secret keys", risk.removeprefix("secret_keys: "), fix)
    if file is not None and not settings.secret_keys:
        yield from _private(file)
    elif not (shared or plain or risks):
        yield ok("secret keys", f"{len(keys)}, long and random")


def _private(file: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield warning("secret keys", f"others can read {file} (mode {mode:o})", f"chmod 600 {file}")
    else:
        yield ok("secret keys", f"in {file}, for its owner alone")


def _roles(settings: Settings) -> Iterator[Finding]:
    try:
        app.check_role(settings)
    except ConfigError as error:
        yield problem("roles", str(error), 'role = "all", or PostgreSQL')
        return
    others = {"api": "worker", "worker": "api"}
    if settings.role in others:
        need = others[settings.role]
        words = f'this process only does part of the work (role "{settings.role}")'
        yield warning(
            "roles", words, f'run another with role "{need}" or "all" on the same database'
        )
    else:
        yield ok("roles", "this process answers, asks and delivers")


def accounts(settings: Settings) -> Iterator[Finding]:
    """Ask the vendors of all accounts from this machine."""
    for check in asked(settings, []):
        yield account(check)
        yield from clock_of(check)


def account(check: Record) -> Finding:
    """Return what the check of an account shows."""
    name = f"account {check['account']}"
    if not check["reachable"]:
        fix = "base_url right? a firewall or allow_private in between?"
        return problem(name, f"not reached: {check['detail']}", fix)
    words = f"{verdict(check).lower()} in {check['latency_ms']} ms"
    theirs = f": {said(check)}" if said(check) else ""
    if check["authorized"] is False:
        return problem(
            name,
            f"credentials {words}{theirs}",
            f"{check['detail']}; change its key in [accounts.*]",
        )
    if is_failed(check):
        return problem(
            name,
            f"the vendor is in trouble: {check['status']}{theirs}",
            "try again later; ask the vendor",
        )
    if check["authorized"] is None:
        return warning(name, f"credentials {words}{theirs}", check["detail"])
    return Finding(name, Status.OK, f"credentials {words}")


def clock_of(check: Record) -> Iterator[Finding]:
    """Yield that a vendor's clock and ours are apart, if they are."""
    skew = check["clock_skew_seconds"]
    if skew is not None and abs(skew) >= _APART:
        name = f"clock of {check['account']}"
        fix = "set this machine's clock by NTP: signatures and tokens of the wrong time are refused"
        yield problem(
            name, f"the vendor's is {abs(skew):g} s {'ahead' if skew > 0 else 'behind'}", fix
        )
