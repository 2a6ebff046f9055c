"""Standard Webhooks: a signed POST that the public libraries verify unchanged.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
With `format = "cloudevents"` the event is sent as a structured-mode CloudEvent, signed likewise:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import httpx

from orchestrator import __version__
from orchestrator.events import formats
from orchestrator.events.destinations import HttpDestination, Message, Option, Target, post
from orchestrator.foundation.signing import standard_webhooks


class Webhook(HttpDestination):
    """An HTTP endpoint of the subscriber."""

    kind = "webhook"
    signed: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {"format": formats.OPTION}

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST, signed with all keys. Custom headers never replace ours."""
        body, content_type = formats.encoded(target, message)
        theirs = {name: value for name, value in target.headers.items() if not is_ours(name)}
        ours = {"content-type": content_type, "user-agent": f"orchestrator/{__version__}"}
        signed = standard_webhooks.sign(target.keys, message.event_id, message.at, body)
        return post(target.address, {**theirs, **ours, **signed}, body)


#: Headers about the connection, the framing or the route of a request, and the one that names us.
_OURS = frozenset(
    [
        "host",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "trailer",
        "trailers",
        "upgrade",
        "http2-settings",
        "expect",
        "user-agent",
        "accept-encoding",
        "date",
        "forwarded",
        "via",
        "x-real-ip",
        "traceparent",
        "tracestate",
        "baggage",
    ]
)
#: Signatures, bodies, proxies, CloudEvents. Some libraries read `svix-` in place of `webhook-`.
_OUR_PREFIXES = ("webhook-", "svix-", "content-", "proxy-", "ce-", "x-forwarded-")
_SEPARATOR = re.compile(r"[^a-z0-9]")


def is_ours(name: str) -> bool:
    """Return whether a header may not be set by a subscriber.

    CGI, WSGI and many frameworks see no difference between `-` and `_`, and some see none between
    these and other punctuation, so a different spelling is the same header (RFC 3875, 4.1.18).
    """
    spelled = _SEPARATOR.sub("-", name.lower())
    return spelled in _OURS or spelled.startswith(_OUR_PREFIXES)
