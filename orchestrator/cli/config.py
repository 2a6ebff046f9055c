"""`orchestrator config`: settings with their origins, a check of them, and a first file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure, exit_of
from orchestrator.cli.terminal import Record
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.masking import API_KEY_PREFIX
from orchestrator.foundation.settings import NO_KEYS, Settings, key_file, load

app = typer.Typer(no_args_is_help=True, help="Settings: show, check, begin.")


_FIRST = """\
# Precedence: flags > ORCHESTRATOR_* environment (__ nests) > secrets directory > this file >
# defaults.

public_url   = "http://127.0.0.1:8080"           # reached by vendors; callback URLs start with it
database_url = "sqlite:///orchestrator.db"
secret_keys  = ["{secret}"]  # newest first
api_keys     = ["{key}"]     # bootstrap key (admin)
# allow_private = ["127.0.0.0/8"]                # private networks that egress may reach
# ca_file = "/etc/ssl/internal.pem"              # authorities in addition to the system's

# [delivery]
# schedule = ["5s", "5m", "30m", "2h"]           # waits between attempts at a subscriber
# final_statuses = [400, 404, 413]               # a delivery is dead at once

# [accounts.main]                                # the `account` in the API and in callback URLs
# vendor     = "cloudsway"    # dreamto | uniall | cubicspaces | cloudsway | agentsflare | kling
# base_url   = "https://..."
# api_key    = "..."                             # kling also: access_key + secret_key
# signature  = "none"             # required | optional | none: the vendor's own push signature
# webhook_secrets = ["whsec_..."]
# max_in_flight = 10                             # jobs at the vendor at once
# rate_limit = 2                                 # submissions a second
# answer_timeout = 60                            # seconds for the answer to a request
# [accounts.main.options]
# endpoint_path = "my-endpoint"
# [accounts.main.poll]
# first_after = 60                               # seconds without a push before the first poll
"""


@command(app, "show", "orchestrator config show --json")
def show(session: Session) -> None:
    """Show every setting and where it was set. Secrets are masked."""
    settings = session.settings()
    origins = settings.origins()
    values = {key: _at(settings.redacted(), key.split(".")) for key in origins}
    if session.terminal.json:
        session.terminal.document(
            {key: {"value": values[key], "origin": origins[key]} for key in origins}
        )
        return
    rows = [[key, _words(values[key]), origin] for key, origin in origins.items()]
    heads = ["setting", "value", "from"]
    session.terminal.table(heads, rows, first=heads[:2], whole="value")


@command(app, "check", "orchestrator config check --config orchestrator.toml")
def check(session: Session) -> None:
    """Check the settings as `serve` would, without starting anything."""
    settings = load(session.options.config)
    if found := faults(settings, session):
        raise ConfigError("\n".join(found))
    for risk in settings.risks():
        session.terminal.notice(f"warning: {risk}")
    document: Record = {"valid": True, "accounts": sorted(settings.accounts)}
    names = ", ".join(sorted(settings.accounts)) or "none"
    session.terminal.record(document, {"valid": "yes", "accounts": names}, key="valid")


@command(app, "init", "orchestrator config init --file orchestrator.toml")
def init(
    session: Session,
    file: Annotated[Path, typer.Option(help="Where to write.")] = Path("orchestrator.toml"),
) -> None:
    """Write a commented file with new secrets, readable by you alone."""
    key = f"{API_KEY_PREFIX}{secrets.token_urlsafe(32)}"
    text = _FIRST.format(secret=secrets.token_urlsafe(48), key=key)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Failure(
            f"{file} exists", hint="name another with --file", code=Exit.CONFLICT
        ) from error
    except OSError as error:
        hint = "name another with --file"
        raise Failure(f"{file}: {error.strerror}", hint=hint, code=exit_of(error)) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    session.terminal.record({"file": str(file)}, {"wrote": file}, key="file")
    session.terminal.notice(
        "next: describe an account in it, then `orchestrator config check` and `orchestrator serve`"
    )


def faults(settings: Settings, session: Session) -> list[str]:
    """Return the faults that only the users of the settings can find."""
    # Here: commands that only call a server start without the service.
    from orchestrator.app import check_role
    from orchestrator.database import backend
    from orchestrator.egress.address_policy import AddressPolicy
    from orchestrator.foundation.authorities import check_authorities
    from orchestrator.vendors.registry import bind_vendor

    def stored() -> None:
        """Check the database, then the key file next to it, or that there are secret keys."""
        backend.inspect(settings.database_url)
        if not settings.secret_keys and settings.database_file is None:
            raise ConfigError(NO_KEYS)
        if not settings.secret_keys and settings.database_file is not None:
            key_file.check(key_file.path_for(settings.database_file))

    checks: list[Callable[[], object]] = [
        stored,
        partial(check_role, settings),
        lambda: AddressPolicy(settings.allow_private),
        partial(check_authorities, settings.ca_file),
    ]
    checks += [
        partial(bind_vendor, account, session.clock) for account in settings.accounts.values()
    ]
    return [fault for check in checks if (fault := _fault(check))]


def _fault(check: Callable[[], object]) -> str:
    try:
        check()
    except ConfigError as error:
        return str(error)
    return ""


def _at(tree: object, path: list[str]) -> object:
    for part in path:
        tree = tree[part] if isinstance(tree, dict) else None
    return tree


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "", {}) else str(value)
