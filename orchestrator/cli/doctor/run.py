"""The checks, and their order in the report."""

from __future__ import annotations

from functools import partial

from orchestrator.cli.command import Session
from orchestrator.cli.doctor import local, public_url, service
from orchestrator.cli.doctor.findings import Check, Finding, gathered, problem, warning
from orchestrator.cli.local_url import local_url
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import Settings, load

#: Seconds for everything, and the least that the concurrent checks get of it.
_DEADLINE = 28.0
_LEAST = 10.0


def examine(session: Session, *, send_test: bool = False) -> list[Finding]:
    """Return all findings, within half a minute."""
    named, ends = session.options.server, session.clock.monotonic() + _DEADLINE
    settings, faults = _settings(session, named)
    if settings is None and named is None:
        return faults
    server = (named or local_url(settings or Settings())).rstrip("/")
    readiness = service.readiness(server)
    checks: list[Check] = []
    if settings is not None:
        lost = readiness.lost if named is None else ""
        checks += local.checks(settings, session.clock, lost=lost)
        if named is None and (read_at := readiness.settings_read_at):
            checks.append(("configuration", partial(local.changes, settings, read_at)))
    checks.append(("server", lambda: readiness.findings))
    if readiness.running:
        checks += service.checks(session, server, send_test=send_test)
    elif settings is not None and settings.accounts:
        checks.append(("accounts", partial(local.accounts, settings)))
    checks += public_url.checks(
        settings, session.clock, running=readiness.running, served=readiness.public_url
    )
    return faults + gathered(checks, max(_LEAST, ends - session.clock.monotonic()))


def _settings(session: Session, named: str | None) -> tuple[Settings | None, list[Finding]]:
    """Return this machine's settings, or None, and the findings that explain it."""
    try:
        settings = load(session.options.config)
    except ConfigError as error:
        lines = str(error).splitlines()
        return None, [
            problem("configuration", line, "`orchestrator config check` tries again")
            for line in lines
        ]
    if named is not None and all(origin == "default" for origin in settings.origins().values()):
        words = "no settings here: checks of the server's own machine are left out"
        return None, [warning("configuration", words, "run doctor there too")]
    return settings, []
