"""The server of a command, and the credential that belongs to it.

A credential goes only to the scheme, host and port that it belongs to:

* `--api-key` to the server of the command;
* `ORCHESTRATOR_API_KEY` to `ORCHESTRATOR_SERVER`, else to a server that a flag names;
* the bootstrap keys and operator passes of settings to the server that the same settings describe.

A file that is merely found in the current folder names a server for its own credentials alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.local_url import is_wildcard, local_url
from orchestrator.client.connection import DEFAULT_SERVER
from orchestrator.client.environment import environment_key, is_loopback, origin_parts
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.masking import OPERATOR_PREFIX

if TYPE_CHECKING:
    from orchestrator.cli.command import Options
    from orchestrator.foundation.settings import Settings


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """A server, and its bearer token: none, a key, or an operator pass made for each request."""

    server: str
    bearer: Callable[[], str] | None = None
    #: The key itself, or a word that is no key: whose place in the log `listen` keeps.
    who: str = ""

    @classmethod
    def keyed(cls, server: str, key: str | None) -> Access:
        """Return access with a key, if there is one. Raises `Failure` if no header can carry it."""
        key = (key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise Failure(
                "the API key has characters that no HTTP header can carry",
                hint="see --api-key, or ORCHESTRATOR_API_KEY",
                code=Exit.USAGE,
            )
        return cls(server, (lambda: key) if key else None, key)

    @classmethod
    def local(cls, server: str, settings: Settings, clock: Clock) -> Access:
        """Return access by a bootstrap key, else by operator passes if the keys can be read.

        Only for the server of these settings: no other may see anything made from them.
        """
        if settings.api_keys:
            return cls.keyed(server, settings.api_keys[0].get_secret_value())
        readable = secret_keys(settings)
        if not readable:
            return cls(server)
        # Here and below: a command with a server and a key starts without settings and
        # cryptography.
        from orchestrator.foundation.signing.secret_keys import Keys

        keys = Keys(readable)
        # A pass is valid for a minute, and a command may take longer.
        return cls(server, lambda: OPERATOR_PREFIX + keys.mint_pass(clock.now()), "operator")


def access_of(options: Options, settings: Callable[[], Settings], clock: Clock) -> Access:
    """Return the server of a command and the credential for it.

    Raises `Failure` if a credential would go to a server that it does not belong to.
    """
    server, key = options.server and options.server.strip().rstrip("/"), options.api_key
    if server is None:
        return _unnamed(options, settings(), clock)
    if key and not (options.key_is_ambient and environment_key(server) is None):
        return Access.keyed(server, key)
    here = settings() if is_loopback(server) else None
    if here and (own := _as_own(server, here)):
        return Access.local(own, here, clock)
    if key:
        raise Failure(
            "ORCHESTRATOR_API_KEY belongs to ORCHESTRATOR_SERVER, and is not sent to another "
            f"server ({_shown(server)})",
            hint="--api-key gives the key of that server",
            code=Exit.USAGE,
        )
    return Access(server)


def _unnamed(options: Options, settings: Settings, clock: Clock) -> Access:
    """Return access to the server that the settings describe."""
    server, found = local_url(settings), None if options.config_is_named else _found(settings)
    key = options.api_key
    if key and not options.key_is_ambient:
        return Access.keyed(server, key)
    if key:
        if found and not _is_in(found, key, settings):
            raise _stray("ORCHESTRATOR_API_KEY", server, found)
        return Access.keyed(server, key)
    access = Access.local(server, settings, clock)
    if access.bearer and found and (stray := _from_elsewhere(settings, found)):
        raise _stray(stray, server, found)
    return access


def _stray(credential: str, server: str, found: str) -> Failure:
    return Failure(
        f"{credential} is not sent to {server}: only {found} in this folder names that server",
        hint=f"if both are yours, give --config {found}, or --server {server}; else leave this "
        "folder, or give --api-key",
        code=Exit.USAGE,
    )


def _found(settings: Settings) -> str | None:
    """Return the file in the current folder that names another server than the default one."""
    from orchestrator.foundation.settings import FOUND

    origins = settings.origins()
    names = str(FOUND) in (origins["host"], origins["port"])
    return str(FOUND) if names and local_url(settings) != DEFAULT_SERVER else None


def _is_in(found: str, key: str, settings: Settings) -> bool:
    """True if the file contains the key: then it is no secret to its author."""
    keys = [each.get_secret_value() for each in settings.api_keys]
    return settings.origins()["api_keys"] == found and key in keys


def _from_elsewhere(settings: Settings, found: str) -> str | None:
    """Return the origin of the local credential, if it is not the file `found` or its folder."""
    origins, database = settings.origins(), settings.database_file
    if settings.api_keys or settings.secret_keys or database is None:
        source = origins["api_keys" if settings.api_keys else "secret_keys"]
        return None if source == found else source
    from orchestrator.foundation.settings import key_file

    keys = key_file.path_for(database)
    is_here = origins["database_url"] in (found, "default") and keys.resolve().is_relative_to(
        Path.cwd()
    )
    return None if is_here else str(keys)


def _as_own(server: str, settings: Settings) -> str | None:
    """Return the URL at which the server of these settings listens, if `server` names it.

    Never the URL given: `localhost` may lead to another address, and so to another process.
    """
    own = local_url(settings)
    mine, named = origin_parts(own), origin_parts(server)
    if not (mine and named):
        return None
    hosts = {mine[1]}
    if mine[1] in ("127.0.0.1", "::1"):
        hosts |= {"localhost", *(("127.0.0.1", "::1") if is_wildcard(settings.host) else ())}
    is_own = named[1] in hosts and (named[0], named[2]) == (mine[0], mine[2])
    return own + urlsplit(server).path if is_own else None


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def secret_keys(settings: Settings) -> list[str]:
    """Return the secret keys this machine can read, newest first; none is made."""
    if settings.secret_keys or settings.database_file is None:
        return [key.get_secret_value() for key in settings.secret_keys]
    from orchestrator.foundation.settings import key_file

    try:
        return key_file.read(key_file.path_for(settings.database_file))
    except OSError:
        return []
