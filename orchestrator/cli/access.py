"""How this machine's own server is reached and let in to, where nobody said it on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.foundation.clock import Clock

if TYPE_CHECKING:
    from orchestrator.foundation.settings import Settings

#: Begins what says "I can read the secret keys", instead of an API key.
_OPERATOR = "orc_pass."


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """A server and what to say to be let in: nothing, a key, or a pass that is made anew for each request."""

    server: str
    bearer: Callable[[], str] | None = None
    #: Whose access it is: the key itself, or a word that is no key.
    who: str = ""

    @classmethod
    def keyed(cls, server: str, key: str | None) -> Access:
        """Return access with a key, if there is one."""
        return cls(server, (lambda: key) if key else None, key or "")

    @classmethod
    def local(cls, server: str, settings: Settings, clock: Clock) -> Access:
        """Return access by a bootstrap key, else by passes made of the secret keys, if these are ours to read.

        Only for the server these settings describe: no other is sent anything made from them.
        """
        if settings.api_keys:
            return cls.keyed(server, settings.api_keys[0].get_secret_value())
        readable = secret_keys(settings)
        if not readable:
            return cls(server)
        # Here, and below: a command that is given a server and a key starts without settings and cryptography.
        from orchestrator.foundation.signing.secret_keys import Keys

        keys = Keys(readable)
        # A pass is good for a minute, and a command may take longer.
        return cls(server, lambda: _OPERATOR + keys.admit(clock.now()), "operator")


def local_url(settings: Settings) -> str:
    """Return where this machine's own server listens."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "localhost") else settings.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def secret_keys(settings: Settings) -> list[str]:
    """Return the secret keys this machine can read, newest first; none is made."""
    if settings.secret_keys or settings.database_file is None:
        return [key.get_secret_value() for key in settings.secret_keys]
    from orchestrator.foundation.settings import key_file

    try:
        return key_file.read(key_file.beside(settings.database_file))
    except OSError:
        return []
