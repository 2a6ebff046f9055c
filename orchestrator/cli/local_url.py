"""The URL of the server that the settings of this machine describe.

Apart from `access`: the service starts without the client.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.foundation.settings import Settings


def local_url(settings: Settings) -> str:
    """Return the URL of this machine's own server."""
    host = settings.host.removeprefix("[").removesuffix("]")
    if is_wildcard(host):
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def is_wildcard(host: str) -> bool:
    """True for `localhost`, and for `0.0.0.0`, `::` and their other spellings."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return host == "localhost"
