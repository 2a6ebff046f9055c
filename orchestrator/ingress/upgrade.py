"""An offer of another protocol that is not taken (RFC 9110, section 7.8)."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]


def without_upgrade(line: tuple[bytes, bytes, str], headers: Iterable[Header]) -> bytes:
    """Return a request head without its offer; `line` is method, URL and HTTP version."""
    method, url, version = line
    kept = [
        b"%b: %b" % (name, _other_options(value) if name == b"connection" else value)
        for name, value in headers
        if name != b"upgrade"
    ]
    return b"\r\n".join((b"%b %b HTTP/%b" % (method, url, version.encode()), *kept, b"", b""))


def _other_options(connection: bytes) -> bytes:
    options = connection.split(b",")
    return b",".join(option for option in options if option.strip().lower() != b"upgrade")
