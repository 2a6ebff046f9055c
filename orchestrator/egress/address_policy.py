"""SSRF guard: the addresses that may be reached, checked for a URL and again at the socket."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import httpx

from orchestrator.foundation.errors import Blocked, ConfigError

if TYPE_CHECKING:
    # The command line uses the policy too, and a plain install has no aiohttp.
    import aiohttp

# The special-purpose registries of IANA, listed: `is_global` varies with the Python version and
# calls multicast global. 168.63.129.16 is the host agent of Azure. Of IPv6 only 2000::/3 is left,
# without documentation and without tunnels, whose end is unknown here (Teredo in 2001::/23, 6to4 in
# 2002::/16).
_SPECIAL: Final = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12
    192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    ::/3 4000::/2 8000::/1 2001::/23 2001:db8::/32 2002::/16 3fff::/20
"""
_FORBIDDEN: Final = [ipaddress.ip_network(cidr) for cidr in _SPECIAL.split()]
# Addresses of RFC 6052, and of the /96 of RFC 8215, end in the IPv4 address. In the rest of
# 64:ff9b:1::/48 it may be elsewhere.
_NAT64: Final = [ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/96")]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Ports below 1024 at public addresses: of HTTP, which brokers use too, and of mail submission.
_WEB: Final = frozenset({80, 443})
_BROKERS: Final = _WEB | {465, 587}
_LOOPBACK_NAMES: Final = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}


class AddressPolicy:
    """Allows public addresses, and those inside `allow_private`.

    Raises `ConfigError` for an entry that is not a CIDR network.
    """

    def __init__(self, allow_private: Sequence[str] = ()) -> None:
        try:
            self._allowed = [ipaddress.ip_network(cidr) for cidr in allow_private]
        except ValueError as error:
            raise ConfigError(
                f"allow_private: {error}; write a network such as 10.0.0.0/8"
            ) from error

    def check(self, address: str, port: int = 443, *, web: bool = True) -> None:
        """Raise `Blocked` unless a socket may connect there.

        Of the ports below 1024, a public address has only 80 and 443, or without `web` those of
        brokers and mail servers.
        """
        try:
            written = ipaddress.ip_address(address)
        except ValueError:
            raise Blocked("not an IP address") from None
        target = _unwrap(written)
        if self._is_allowed(written, target):
            return
        if not target.is_global or any(target in network for network in _FORBIDDEN):
            raise Blocked(f"{address} is not a public address, nor in a network of allow_private")
        _check_port(port, _WEB if web else _BROKERS)

    def check_url(self, url: str) -> None:
        """Raise `Blocked` if the URL alone is forbidden. Names are resolved only at the socket."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise Blocked("not a URL") from None
        check_form(parsed)
        port = 443 if parsed.port is None else parsed.port
        if address := _literal(parsed.raw_host.decode("ascii").rstrip(".")):
            self.check(address, port)
        elif not self._allowed:
            _check_port(port)

    def check_hosts(self, hosts: Sequence[tuple[str, int | None]]) -> None:
        """Raise `Blocked` if a host and port of a broker alone are forbidden, as `check_url`."""
        for host, port in hosts:
            # The port of a scheme that we do not know is judged at the socket.
            port = 443 if port is None else port
            if address := _literal(host.rstrip(".")):
                self.check(address, port, web=False)
            elif not self._allowed:
                _check_port(port, _BROKERS)

    def is_internal(self, url: str) -> bool:
        """True if the host is an address inside `allow_private`."""
        address = _literal(httpx.URL(url).raw_host.decode("ascii").rstrip("."))
        if address is None:
            return False
        written = ipaddress.ip_address(address)
        return self._is_allowed(written, _unwrap(written))

    def _is_allowed(self, written: _Address, target: _Address) -> bool:
        return any(written in network or target in network for network in self._allowed)

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, all allowed. Blocks. Raises `Blocked` and `OSError`."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "the name cannot be encoded") from None
        addresses = [*dict.fromkeys(str(entry[4][0]) for entry in found)]
        for address in addresses:
            self.check(address, port)
        return addresses

    def open_socket(self, found: aiohttp.AddrInfoType) -> socket.socket:
        """Check an address just before connecting: aiohttp resolves no IP literals."""
        family, kind, protocol, _, address = found
        self.check(str(address[0]), int(address[1]))
        return socket.socket(family, kind, protocol)


def _unwrap(address: _Address) -> _Address:
    """Return the IPv4 address inside an IPv6 address, or the address itself. `::1` is 127.0.0.1."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.is_loopback:
        return ipaddress.IPv4Address("127.0.0.1")
    return address.ipv4_mapped or address


def _literal(host: str) -> str | None:
    """Return the address of a host that needs no DNS, in any form inet_aton takes (`0x7f.1`)."""
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return host if ":" in host else socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def check_form(url: httpx.URL) -> None:
    """Raise `Blocked` unless the URL is http(s), names a host and carries no credentials."""
    if url.scheme not in {"http", "https"} or not url.raw_host or not 0 < (url.port or 443) < 65536:
        raise Blocked("only http:// and https:// URLs can be reached")
    if url.userinfo:
        raise Blocked("a URL may not carry a user name or password")


def _check_port(port: int, allowed: Collection[int] = _WEB) -> None:
    if port < 1024 and port not in allowed:
        what = "the web" if allowed is _WEB else "a broker or a mail server"
        raise Blocked(f"port {port} is not a port of {what}")
