"""`client.destinations`: the kinds of addresses that subscribers may have."""

from __future__ import annotations

from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.requests import get
from orchestrator.client.sync_async import ModeT, Resource
from orchestrator.schemas import DestinationKind, Page


class Destinations(Resource[ModeT]):
    """Kinds of destinations: their addresses, options and credentials."""

    @dual_list
    def list(self, *, page_size: int = 100) -> AsyncPages[DestinationKind]:
        """Return all kinds, by name.

        >>> [kind.kind for kind in client.destinations.list() if kind.signed]
        ['webhook']
        """
        return AsyncPages(
            self._connection, Page[DestinationKind], get("destinations", limit=page_size)
        )
