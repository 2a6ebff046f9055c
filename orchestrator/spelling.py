"""How a request is spelt on the wire (RFC 9112): a head of lines, an empty line, and the body, counted."""

from __future__ import annotations

from typing import Final

import httpx

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


def spelt(request: httpx.Request, body: bytes) -> bytes:
    """The request as it leaves: its headers as they were built, and what the other side needs to know besides.

    The body is whole here, so it is counted, whatever httpx made of a stream of unknown length; an answer may not be
    compressed. Raises `ValueError` if one line would be read as two.
    """
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    said = set()
    for name, value in request.headers.raw:
        lower = name.lower()
        said.add(lower)
        if lower not in _FRAMING:
            lines.append(b"%b: %b" % (name, value))
    if b"host" not in said:
        lines.append(b"Host: " + request.url.netloc)
    if b"accept-encoding" not in said:
        lines.append(b"Accept-Encoding: identity")
    if body or said & _FRAMING:
        lines.append(b"Content-Length: %d" % len(body))
    ends = len(lines) + 1
    head = b"\r\n".join((*lines, b"", b""))
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("a line of the request has a break in it")
    return head + body
