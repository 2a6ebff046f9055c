"""Addresses of brokers and mailboxes: `scheme://[user@]host[:port][,host[:port]]/path?query`.

The form is strict, so that no two parsers read different hosts in it. Some have no host:
`mailto:a@example.com`. A secret has no place in an address; credentials are apart from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, urlencode

from orchestrator.foundation.errors import ConfigError

#: Parameters that name a place at a broker: they are no secrets, and are shown.
_PLACES: Final = frozenset({"exchange", "routing_key", "stream"})
_SECRETS: Final = re.compile("pass|secret|token|credential", re.IGNORECASE)
_HOST = r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_][A-Za-z0-9._-]{0,252})(?::[0-9]{1,5})?"
_FORM: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31})://"
    r"(?:(?P<user>[A-Za-z0-9._~%!$&'()*+,;=:-]*)@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?P<path>/[!-~]*?)?(?:\?(?P<query>[!-~]*))?"
)
_WITHOUT_HOST: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31}):(?P<path>(?!//)[!-~]+?)(?:\?(?P<query>[!-~]*))?"
)
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """An address in its parts. `hosts` is as written, in lower case; empty: there is none."""

    scheme: str
    user: str
    hosts: str
    path: str
    query: str

    @property
    def endpoints(self) -> list[tuple[str, int | None]]:
        """Hosts, without brackets, each with its port; None: the default of the scheme."""
        found = (re.fullmatch(r"\[?(.*?)\]?(?::([0-9]+))?", one) for one in self.hosts.split(","))
        pairs = [(one[1], one[2]) for one in found if one is not None and one[1]]
        return [(host, int(port) if port else None) for host, port in pairs]

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The names and values of the query."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def secret(self) -> str | None:
        """What of it looks like a secret: a password, or the name of a parameter; or None."""
        if ":" in self.user:
            return "password"
        names = (name for name, _ in self.parameters if name not in _PLACES)
        return next((name for name in names if _SECRETS.search(name)), None)


@lru_cache(maxsize=1024)
def parse(address: str) -> BrokerAddress:
    """Return the parts of an address. Raises `ConfigError`, which does not repeat it."""
    found = _FORM.fullmatch(address) or _WITHOUT_HOST.fullmatch(address)
    if found is None or "#" in address:
        raise ConfigError("an address has the form scheme://host:port/path, in printable ASCII")
    parts = found.groupdict(default="")
    parsed = BrokerAddress(
        scheme=parts["scheme"].lower(),
        user=parts.get("user", ""),
        hosts=parts.get("hosts", "").lower(),
        path=parts["path"],
        query=parts["query"],
    )
    if any(port is not None and not 0 < port <= _LAST_PORT for _, port in parsed.endpoints):
        raise ConfigError(f"a port is a number from 1 to {_LAST_PORT}")
    return parsed


def origin(address: str) -> str:
    """Return scheme, hosts and ports; all of an address that has no host."""
    parsed = _parsed(address)
    if parsed is None or not parsed.hosts:
        return canonical(address)
    return f"{parsed.scheme}://{parsed.hosts}"


def canonical(address: str) -> str:
    """Return the spelling that all addresses of the same place share."""
    parsed = _parsed(address)
    if parsed is None:
        return address
    user = f"{parsed.user}@" if parsed.user else ""
    query = f"?{parsed.query}" if parsed.query else ""
    return f"{_begin(parsed)}{user}{parsed.hosts}{parsed.path}{query}"


def shown(address: str) -> str:
    """Return an address without its user, and of its query only what names a place."""
    parsed = _parsed(address)
    if parsed is None:
        return hidden(address)
    places = [(name, value) for name, value in parsed.parameters if name in _PLACES]
    query = f"?{urlencode(places)}" if places else ""
    return f"{_begin(parsed)}{parsed.hosts}{parsed.path}{query}"


def hidden(address: str) -> str:
    """Return the scheme alone: of an address that is a secret, the host may be one too."""
    scheme, _, rest = address.partition(":")
    return f"{scheme.lower()}:{'//' if rest.startswith('//') else ''}…"


def secrets(address: str, *, is_secret: bool) -> set[str]:
    """Return the values in the query that name no place; of an address that is one, all parts."""
    parsed = _parsed(address)
    if parsed is None or is_secret:
        return set(re.split(r"[/?&=:@,]", address.partition(":")[2]))
    return {value for name, value in parsed.parameters if name not in _PLACES}


def _begin(parsed: BrokerAddress) -> str:
    return f"{parsed.scheme}://" if parsed.hosts else f"{parsed.scheme}:"


def _parsed(address: str) -> BrokerAddress | None:
    """Return the parts, or None for the address of a kind that has a form of its own."""
    try:
        return parse(address)
    except ConfigError:
        return None
