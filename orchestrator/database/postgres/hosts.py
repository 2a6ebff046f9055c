"""The hosts of a URL, one or several: `postgresql://user@a:5432,b:5432/database`.

As in libpq, a connection goes to the first host that takes it; SQLAlchemy has no such URLs.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

#: The user and password are never given back: a password may contain commas.
_SEVERAL = re.compile(
    r"(?P<before>[^:]*://(?:[^:/@]*(?::[^@]*)?@)?+)(?P<hosts>[^/?@]*,[^/?@]*)"
    r"(?P<path>[^?]*)(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?")
_DEFAULT_PORT = "5432"

Parameters = Mapping[str, Any]


def in_query(url: str) -> str:
    """Return a URL with its hosts, if it has several, as the parameters `host` and `port`.

    Raises `ValueError`.
    """
    found = _SEVERAL.fullmatch(url)
    if found is None:
        return url
    pairs = [_pair(text) for text in found["hosts"].split(",")]
    hosts, ports = (quote(",".join(values)) for values in zip(*pairs, strict=True))
    query = "&".join(filter(None, (found["query"], f"host={hosts}&port={ports}")))
    return f"{found['before']}{found['path'] or '/'}?{query}"


def _pair(text: str) -> tuple[str, str]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError("a host is missing or has no number as its port")
    return found[1] or found[2], found[3] or _DEFAULT_PORT


def split(named: Parameters) -> list[dict[str, str]]:
    """Return the `host` and `port` of each host in the parameters of a connection, in order.

    One empty entry if they name no host, or one.
    """
    hosts, ports = (str(named.get(name) or "").split(",") for name in ("host", "port"))
    # `hostaddr` would have to be split with them.
    if len(hosts) == 1 or "hostaddr" in named:
        return [{}]
    # One port is that of every host.
    every = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    return [
        {"host": host, "port": port or _DEFAULT_PORT}
        for host, port in zip(hosts, every, strict=True)
    ]


def several(url: sa.URL) -> list[str]:
    """Return the hosts of a URL with their ports, as text; none unless they are several.

    Raises `ArgumentError` or `ValueError` if their numbers differ, or a port is no number.
    """
    if url.get_backend_name() != "postgresql" or "host" not in url.query:
        return []
    _, named = url.get_dialect()().create_connect_args(url)
    pairs = [(pair["host"], pair["port"]) for pair in split(named) if pair]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs]


def session_attributes(url: sa.URL, *, read_only: bool) -> dict[str, str]:
    """Return which of the servers of a URL to connect to: by default, of several, the primary."""
    default = "read-write" if several(url) else ""
    wanted = str(url.query.get("target_session_attrs", default))
    if read_only and wanted == "read-write":
        # A session that may only read is not read-write on any server.
        wanted = "primary"
    return {"target_session_attrs": wanted} if wanted else {}
