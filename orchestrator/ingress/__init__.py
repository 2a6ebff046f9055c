"""HTTP/1.1 from clients: uvicorn's connections, with a bound on every buffer and every wait.

uvicorn parses with httptools, which bounds neither a head nor a trailer; it has no deadline for
heads and bodies, no connection limit that keeps serving, and drops the body of a request that
offers an upgrade. None of this can be configured. So the protocol is a subclass, and server,
lifespan and ASGI scope stay uvicorn's.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

from orchestrator.foundation.settings.http import Http
from orchestrator.ingress.connections import Connections
from orchestrator.ingress.protocol import HttpProtocol


def http_protocol(limits: Http) -> type[asyncio.Protocol]:
    """Return the protocol of one server: `uvicorn.Config(app, http=http_protocol(...))`."""
    bounded = partial(HttpProtocol, limits=limits, connections=Connections(limits))
    # uvicorn only calls it.
    return cast(type[asyncio.Protocol], bounded)
