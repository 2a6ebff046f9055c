"""Does a URL lead to this very service? A token of its own for our callback door, and the answer only we can give.

Both are made with `secret_keys`: whoever has none can neither ask nor answer, and is told what every bad token is told.
They are callback tokens of names that no account can have, so they open nothing else, and touch no job.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from orchestrator.foundation.errors import BadToken
from orchestrator.foundation.signing.secret_keys import Callback, Keys

#: Where an account's name stands otherwise. Those have no capital letters.
PING = "PING"
_PONG = "PONG"
#: Long enough for clocks that are not quite right, which is told elsewhere.
_VALID = timedelta(minutes=5)


def ping(keys: Keys, nonce: str, now: datetime) -> str:
    """Return a token to post to `/callbacks/PING/`."""
    return keys.mint(PING, Callback(nonce, 0), now + _VALID)


def pong(keys: Keys, token: str, now: datetime) -> str:
    """Return the answer to a ping. Raises `BadToken` if it is not one of ours, or too old."""
    return keys.mint(_PONG, keys.unseal(PING, token, now), now + _VALID)


def is_answered(keys: Keys, nonce: str, answer: str, now: datetime) -> bool:
    """True if this is the answer to the ping with that nonce, from somebody with the same keys."""
    try:
        return hmac.compare_digest(keys.unseal(_PONG, answer, now).job_id.encode(), nonce.encode())
    except BadToken:
        return False
