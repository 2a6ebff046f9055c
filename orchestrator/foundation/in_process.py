"""Requests that one part of the service makes to another in process, on behalf of a caller.

Only code of the service can put an entry into an ASGI scope: what clients send are its headers.
"""

from __future__ import annotations

from typing import Final

#: The entry of a scope that holds the id of the API key whose rights the request has.
CALLER: Final = "orchestrator.caller"
#: The caller that reads the job of a share link for a reader without a key. It is no key's id.
SHARED: Final = "shared"
