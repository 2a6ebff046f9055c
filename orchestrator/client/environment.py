"""How the environment leads to a server: its key, proxies and certificate authorities.

httpx reads them too, but ends with a traceback at the first entry of `no_proxy` or at the first URL
that it does not know. Here a fault of a variable that matters for the URL is a `ConfigError` that
names the variable, and all other entries are left alone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TypedDict
from urllib.parse import urlsplit

import httpx

from orchestrator.foundation.authorities import client_context
from orchestrator.foundation.errors import ConfigError

_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_SOCKS = ("socks5", "socks5h")


class HttpxOptions(TypedDict):
    """Options of an httpx client that depend on the server's URL."""

    trust_env: bool
    proxy: httpx.Proxy | None
    verify: ssl.SSLContext


def way(url: str) -> HttpxOptions:
    """Return the options of an httpx client for a URL, where redirects are not followed.

    Loopback ignores the proxies of the environment. Without https the certificate store stays
    empty: loading the authorities takes longer than most calls. Raises `ConfigError`.
    """
    proxy = None if is_loopback(url) else _proxy(url)
    secure = url.lower().startswith("https:") or (proxy and proxy.url.scheme == "https")
    if secure:
        verify = client_context(default=httpx.create_ssl_context)
    else:
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return HttpxOptions(trust_env=False, proxy=proxy, verify=verify)


def environment_key(server: str) -> str | None:
    """Return ORCHESTRATOR_API_KEY, unless ORCHESTRATOR_SERVER says that it is for another server.

    A key goes to the scheme, host and port that it belongs to.
    """
    owner = os.environ.get("ORCHESTRATOR_SERVER")
    if owner and origin_parts(owner) != origin_parts(server):
        return None
    return os.environ.get("ORCHESTRATOR_API_KEY") or None


def origin_parts(url: str) -> tuple[str, str, int | None] | None:
    """Return the scheme, host and port of a URL as httpx reads it; None for no URL."""
    try:
        parts = httpx.URL(url.strip())
    except httpx.InvalidURL:
        return None
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.host.lower(), port


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine: `localhost` or a loopback address."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy(url: str) -> httpx.Proxy | None:
    """Return the proxy for a URL. Raises `ConfigError` if its variable cannot be used."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        # No URL: httpx refuses it.
        return None
    proxies = urllib.request.getproxies()
    if _is_exempt(parts.hostname or "", port, proxies.get("no", "")):
        return None
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if scheme is None:
        return None
    variable = _variable(f"{scheme}_proxy")
    given = proxies[scheme].strip()
    try:
        proxy = httpx.Proxy(given if "://" in given else f"http://{given}")
        usable = bool(proxy.url.host) and 0 < (proxy.url.port or 80) < 65536
    except (ValueError, httpx.InvalidURL):
        usable = False
    # The value is not shown: it may hold a password.
    if not usable:
        raise ConfigError(
            f"{variable}: not a proxy's URL, such as http://proxy.example:3128; correct or unset it"
        )
    if proxy.url.scheme in _SOCKS and find_spec("socksio") is None:
        raise ConfigError(
            f"{variable}: a SOCKS proxy needs the package socksio: pip install 'httpx[socks]';"
            " or unset it"
        )
    return proxy


def _variable(name: str) -> str:
    """Return the name of an environment variable in the case that is set, lower or upper."""
    return next((word for word in (name, name.upper()) if os.environ.get(word)), name.upper())


def _is_exempt(host: str, port: int, entries: str) -> bool:
    """True if `no_proxy` has the host: `*`, a name or a domain, an address, or a network (CIDR)."""
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", entries) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(host) in network
    name, _, own_port = entry.rpartition("://")[2].rpartition(":")
    if not (name and own_port.isdigit()):
        name, own_port = entry.rpartition("://")[2], ""
    name = name.strip("[]").lstrip("*").lstrip(".").lower()
    same = host.lower() == name or host.lower().endswith(f".{name}")
    return bool(name) and same and own_port in ("", str(port))
