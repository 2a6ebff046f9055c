"""A vendor of every dialect, and a subscriber, that answer with hostile documents."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

from tests.attack.origin import Answer, Asked, response
from tests.hostile.documents import encoded, value, vendor_document
from tests.hostile.operations import Known

_CALLBACK = re.compile(rb"http://127\.0\.0\.1:\d+(/callbacks/[\w./~:-]+)")
_STATUSES = (200, 200, 200, 200, 201, 202, 400, 401, 404, 422, 500, 503)
_HEADERS: tuple[dict[str, str], ...] = (
    {}, {}, {}, {"content_type": "text/html"}, {"content_type": "\x01"},
    {"content_encoding": "gzip"},
    {"location": "/elsewhere"}, {"x_long": "v" * 4000}, {"set_cookie": "a=b"}, {"date": "never"},
)  # fmt: skip


def hostile(rng: random.Random, known: Known, counts: Counter[str]) -> Answer:
    """Return answers for vendors and subscribers; callback URLs in requests become known."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if found := _CALLBACK.search(asked.body):
            known.callbacks.append(found[1].decode())
        is_event = asked.path.startswith(("/hook", "/caller"))
        counts["answer to a delivery" if is_event else "answer of a vendor"] += 1
        document = vendor_document(rng) if rng.random() < 0.9 else value(rng)
        # A rest would keep what follows from being asked.
        status = rng.choice(_STATUSES) if not is_event else rng.choice((200, 204, 400, 500))
        headers = rng.choice(_HEADERS)
        body = b"" if status == 204 else encoded(rng, document)
        writer.write(response(status, body, **headers))
        if rng.random() < 0.01:
            await writer.drain()
            writer.transport.abort()

    return answer
