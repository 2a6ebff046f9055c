"""Checks of this machine: settings, database, folder, keys, and vendors if no server runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from orchestrator import app
from orchestrator.cli.access import secret_keys
from orchestrator.cli.account_check import checks as account_checks
from orchestrator.cli.accounts import is_failed, vendor_words, verdict
from orchestrator.cli.doctor.findings import Check, Finding, ok, problem, warning
from orchestrator.cli.terminal import counted, moment
from orchestrator.database import backend
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.foundation.authorities import check_authorities
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import NO_KEYS, Settings, key_file
from orchestrator.foundation.settings.exposure import exposed
from orchestrator.schemas import AccountCheck
from orchestrator.vendors import registry

#: Free bytes on the disk: below the first, writes soon fail; below the second, a warning.
_TIGHT, _LOW = 100 << 20, 1 << 30
#: Secrets from documents and examples, ours and others': public.
_SHARED = {
    "newest", "older still accepted", "a long random text", "the same long random text everywhere",
    "changeme", "change-me", "change me", "secret", "secret-key", "your-secret-key", "password",
    "example", "orchestrator",
}  # fmt: skip
#: Distinct characters in any random text.
_VARIED = 10
#: Tolerated difference (s) between a vendor's clock and ours.
_APART = 30.0


def checks(settings: Settings, clock: Clock, *, lost: str = "") -> list[Check]:
    """Return the checks of this machine. `lost`: how its service lost the database's files."""
    return [
        ("configuration", partial(_configuration, settings, clock)),
        ("database", partial(_database, settings, lost)),
        ("data folder", partial(_folder, settings)),
        ("secret keys", partial(_secret_keys, settings)),
        ("roles", partial(_roles, settings)),
    ]


def _configuration(settings: Settings, clock: Clock) -> Iterator[Finding]:
    faults = []
    for name, account in settings.accounts.items():
        try:
            registry.bind_vendor(account, clock)
        except ConfigError as error:
            faults.append(str(error).removeprefix(f"accounts.{name}: "))
    for use in (
        partial(AddressPolicy, settings.allow_private),
        partial(check_authorities, settings.ca_file),
    ):
        try:
            use()
        except ConfigError as error:
            faults.append(str(error))
    for fault in faults:
        yield problem(
            "configuration", fault, "change that setting; `orchestrator config check` tries again"
        )
    origins = sorted({origin for origin in settings.origins().values() if origin != "default"})
    if not faults and not settings.accounts:
        fix = "add [accounts.main]; `orchestrator config init` writes a first file to add it to"
        yield warning("configuration", "no account is configured, so no job can be submitted", fix)
    elif not faults:
        names = ", ".join(sorted(settings.accounts))
        yield ok("configuration", f"valid, from {', '.join(origins)}; accounts: {names}")
    if (file := settings.toml_with_secrets) and (found := exposed(file)):
        yield warning("configuration", found.problem, found.fix)


def changes(settings: Settings, read_at: datetime) -> Iterator[Finding]:
    """Warn of files that have changed since the running server read its settings."""
    if files := settings.changed_since(read_at):
        names = ", ".join(map(str, files))
        words = f"{names} changed after the running server had read it, at {moment(read_at)}"
        yield warning("configuration", words, "restart the server: it works with the old settings")


def _database(settings: Settings, lost: str) -> Iterator[Finding]:
    if lost:
        # Not opened: SQLite would apply the log of the lost file to the one that is there now.
        fix = "put the files back, or restart the service to open what is there"
        yield problem("database", f"{settings.database_file}: {lost}", fix)
        return
    try:
        # Reads only, without the file's lock, which a running server holds.
        name, revision, pooled, risks = backend.inspect(settings.database_url)
    except ConfigError as error:
        fix = "`orchestrator migrate` brings a schema up to date; otherwise change database_url"
        yield problem("database", str(error), fix)
        return
    file = settings.database_file
    if file is not None and not file.exists():
        yield ok("database", f"{name} is not there yet; `orchestrator serve` creates it")
        return
    has = (
        f"its schema is the newest, {revision}"
        if revision
        else "it is empty: the first `orchestrator serve` creates the schema"
    )
    through = ", through a connection pooler" if pooled else ""
    yield ok("database", f"{name} answers{through}; {has}")
    for risk in risks:
        yield (problem if risk.fatal else warning)("durability", risk.found, risk.fix)
    if file is None and not risks:
        yield ok("durability", "what is acknowledged survives a crash of the database server")


def _folder(settings: Settings) -> Iterator[Finding]:
    file = settings.database_file
    if file is None:
        return
    folder = file.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        fix = "make the server's user its owner"
        yield problem("data folder", f"{folder} cannot be written", fix)
        return
    free = shutil.disk_usage(folder).free
    words = f"{folder} can be written, {_size(free)} free"
    if free < _TIGHT:
        yield problem(
            "data folder", words, "free space: with a full disk no job and no push is accepted"
        )
    elif free < _LOW:
        fix = "free space soon; retention_days limits how long finished work is kept"
        yield warning("data folder", words, fix)
    else:
        yield ok("data folder", words)


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"


def _secret_keys(settings: Settings) -> Iterator[Finding]:
    file = None if settings.database_file is None else key_file.path_for(settings.database_file)
    keys = secret_keys(settings)
    fix = 'put a new one first: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
    if not keys:
        if file is None:
            yield problem("secret keys", NO_KEYS, fix)
        else:
            words = "none yet; `orchestrator serve` creates one next to the database"
            yield ok("secret keys", words)
        return
    if shared := sum(key.strip().lower() in _SHARED for key in keys):
        words = f"{shared} of {len(keys)} are public examples: anyone can forge callbacks"
        yield problem("secret keys", words, fix)
    plain = sum(len(set(key)) < _VARIED for key in keys)
    if plain and not shared:
        yield warning("secret keys", f"{plain} of {len(keys)} are not random", fix)
    risks = [risk for risk in settings.risks() if risk.startswith("secret_keys:")]
    for risk in risks:
        yield warning("secret keys", risk.removeprefix("secret_keys: "), fix)
    if file is not None and not settings.secret_keys:
        yield _stored(file)
    elif not (shared or plain or risks):
        yield ok("secret keys", f"{counted(len(keys), 'key')}, long and random")


def _stored(file: Path) -> Finding:
    if found := exposed(file):
        return warning("secret keys", found.problem, found.fix)
    return ok("secret keys", f"in {file}, readable by its owner alone")


def _roles(settings: Settings) -> Iterator[Finding]:
    try:
        app.check_role(settings)
    except ConfigError as error:
        yield problem("roles", str(error), 'set role = "all", or use PostgreSQL')
        return
    others = {"api": "worker", "worker": "api"}
    if settings.role in others:
        need = others[settings.role]
        words = f'this process does only part of the work (role "{settings.role}")'
        fix = f'run another with role "{need}" or "all" on the same database'
        yield warning("roles", words, fix)
    else:
        yield ok("roles", "this process serves the API, submits, polls and delivers")


def accounts(settings: Settings) -> Iterator[Finding]:
    """Query the vendors of all accounts from this machine."""
    for check in account_checks(settings, []):
        yield account(check)
        yield from clock_of(check)


def account(check: AccountCheck) -> Finding:
    """Return the finding of an account's check."""
    name = f"account {check.account}"
    if not check.reachable:
        fix = "check base_url, allow_private, and whether a firewall blocks the way"
        return problem(name, f"not reached: {check.detail}", fix)
    words = f"credentials {verdict(check).lower()} in {check.latency_ms} ms"
    theirs = vendor_words(check)
    with_theirs = f"{words}: {theirs}" if theirs else words
    if check.authorized is False:
        return problem(name, with_theirs, f"{check.detail}; change its key in [accounts.*]")
    if is_failed(check):
        failing = f"the vendor is failing: {check.status}"
        failing += f": {theirs}" if theirs else ""
        return problem(name, failing, "try again later; ask the vendor")
    if check.authorized is None:
        fix = "check base_url; a job that fails with vendor_auth shows that the key is refused"
        return warning(
            name, f"{with_theirs}; the vendor's answer leaves it open: {check.detail}", fix
        )
    return ok(name, words)


def clock_of(check: AccountCheck) -> Iterator[Finding]:
    """Yield a problem if a vendor's clock and ours differ too much."""
    skew = check.clock_skew_seconds
    if skew is not None and abs(skew) >= _APART:
        found = f"the vendor's is {abs(skew):g} s {'ahead' if skew > 0 else 'behind'}"
        fix = "set this machine's clock by NTP: signatures and tokens of the wrong time are refused"
        yield problem(f"clock of {check.account}", found, fix)
