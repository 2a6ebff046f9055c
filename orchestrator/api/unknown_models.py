"""Models that the vendor's documents do not name: sent all the same, and logged."""

from __future__ import annotations

import structlog

from orchestrator.database.tables.rows import JobRow
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

#: Models that are logged: callers may make up any number.
_MOST = 1000


class UnknownModels:
    """Logs each unknown model once in the life of the process."""

    def __init__(self) -> None:
        #: Vendor and model.
        self._logged: set[tuple[str, str]] = set()

    def look_at(self, vendor: Vendor, row: JobRow) -> None:
        """Log the model of a job, if it is unknown and was not logged before."""
        named = vendor.name, row["model"]
        if vendor.knows_model(row["model"]) or named in self._logged or len(self._logged) == _MOST:
            return
        self._logged.add(named)
        ids = {"job": row["id"], "account": row["account"]}
        log.warning("the vendor's documents name no such model", **ids, model=row["model"])
