"""Checks that a URL leads to this service: a signed challenge (ping) and its response (pong).

Both are made with `secret_keys`, so only a holder of the keys can make or answer a challenge. They
are callback tokens of names that no account can have, so they open nothing else and touch no job.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from orchestrator.foundation.errors import BadToken
from orchestrator.foundation.signing.secret_keys import Callback, Keys

#: Stands for the account's name in the URL. Names of accounts have no capital letters.
PING = "PING"
_PONG = "PONG"
#: Allows for clocks that are a little wrong; a check of its own reports those.
_VALID = timedelta(minutes=5)


def ping(keys: Keys, nonce: str, now: datetime) -> str:
    """Return a token to post to `/callbacks/PING/`."""
    return keys.mint(PING, Callback(nonce, 0), now + _VALID)


def pong(keys: Keys, token: str, now: datetime) -> str:
    """Return the response to a ping. Raises `BadToken` if it is not ours, or too old."""
    return keys.mint(_PONG, keys.unseal(PING, token, now), now + _VALID)


def is_answered(keys: Keys, nonce: str, answer: str, now: datetime) -> bool:
    """True if `answer` responds to the ping with that nonce, and was made with the same keys."""
    try:
        return hmac.compare_digest(keys.unseal(_PONG, answer, now).job_id.encode(), nonce.encode())
    except BadToken:
        return False
