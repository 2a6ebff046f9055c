"""The server of this machine and the credential for it, where the command line names neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.masking import OPERATOR_PREFIX

if TYPE_CHECKING:
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
        """Return access with a key, if there is one."""
        return cls(server, (lambda: key) if key else None, key or "")

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


def local_url(settings: Settings) -> str:
    """Return the URL of this machine's own server."""
    local = settings.host in ("0.0.0.0", "::", "localhost")  # noqa: S104 - compared, not bound
    host = "127.0.0.1" if local else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def secret_keys(settings: Settings) -> list[str]:
    """Return the secret keys this machine can read, newest first; none is made."""
    if settings.secret_keys or settings.database_file is None:
        return [key.get_secret_value() for key in settings.secret_keys]
    from orchestrator.foundation.settings import key_file

    try:
        return key_file.read(key_file.path_for(settings.database_file))
    except OSError:
        return []
