"""What a connection waits for, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum, auto

from orchestrator.foundation.settings.http import Http

#: Seconds for a client to read the end of its answer and close (lingering close).
_LINGER = 5.0
#: Seconds for the rest of a body after its response.
_DRAIN = 30.0


class Phase(Enum):
    """What a connection waits for."""

    OPENED = auto()  # the first byte of all
    IDLE = auto()  # the first byte of another request
    HEAD = auto()  # the rest of a head
    BODY = auto()  # the rest of a body
    RESPONSE = auto()  # the application; more requests are held
    DRAIN = auto()  # the rest of a body whose response is complete
    LINGER = auto()  # the end of the connection; what comes is dropped


#: No byte of the next request has arrived.
BETWEEN = (Phase.OPENED, Phase.IDLE)
#: No response is owed, so the connection may be closed to make room.
UNUSED = (*BETWEEN, Phase.DRAIN, Phase.LINGER)


def patience(limits: Http) -> Mapping[Phase, float]:
    """Return the longest time of each phase, in seconds. That of a body grows as it arrives."""
    return {
        Phase.OPENED: limits.head_timeout,
        Phase.IDLE: limits.idle_timeout,
        Phase.HEAD: limits.head_timeout,
        Phase.BODY: limits.body_timeout,
        Phase.RESPONSE: math.inf,
        Phase.DRAIN: _DRAIN,
        Phase.LINGER: _LINGER,
    }
