"""Share links: expiring URLs that show one job, read only, to readers without a key."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from orchestrator.foundation.settings.dashboard import Dashboard
from orchestrator.foundation.signing.secret_keys import Keys


class ShareLink(NamedTuple):
    """A URL, and the time until which it shows the job."""

    url: str
    expires_at: datetime


class ShareLinks:
    """Makes share links. It holds the keys, since a link carries a signed token.

    A link cannot be revoked alone: it ends with its time, with the secret key that signed it, or
    with the setting that turns all of them off.
    """

    def __init__(self, keys: Keys, base_url: str, dashboard: Dashboard) -> None:
        self._keys = keys
        self._base = base_url
        self._days = dashboard.share_days if dashboard.enabled else 0

    @property
    def enabled(self) -> bool:
        """True if there are such links, and pages that they lead to."""
        return self._days > 0

    def link_to(self, job_id: str, now: datetime, days: int | None = None) -> ShareLink:
        """Return a link to a job for that many days, by default as the settings say."""
        expires = now + timedelta(days=days or self._days)
        token = self._keys.mint_share(job_id, expires)
        return ShareLink(f"{self._base}/dashboard/shared/{token}", expires)
