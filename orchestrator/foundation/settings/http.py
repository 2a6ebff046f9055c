"""Limits of the HTTP server: what a client may send, and how long it may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.foundation.settings.types import Seconds


class Http(BaseModel):
    """What one connection may cost. Sizes are in bytes, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    #: Of a request head; also of what stands between two pieces of a chunked body, trailers too.
    head_bytes: Annotated[int, Field(ge=1024, le=1_048_576)] = 65_536
    #: Header fields and trailer fields of one request.
    head_fields: Annotated[int, Field(ge=8, le=10_000)] = 100
    #: For a head: from the connection, later from its first byte.
    head_timeout: Seconds = 10
    #: For a body. Each `body_rate` bytes received extend it by a second.
    body_timeout: Seconds = 10
    body_rate: Annotated[int, Field(ge=1, le=1_000_000_000)] = 4096
    #: Without any progress of a client that reads its response.
    write_timeout: Seconds = 30
    #: Between requests. More than the minute for which proxies keep their connections.
    idle_timeout: Seconds = 75
    #: Of one process; at most half of its limit of open files.
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
