"""What a delivery sends, and where: its message, and its target with the secrets decrypted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine.deliver_scheduler import ClaimedDelivery
from orchestrator.events.destinations import Destination, Message, Target
from orchestrator.foundation.clock import Clock, epoch_ms
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.jobs.share_links import ShareLinks


@dataclass(frozen=True, slots=True)
class MessageBuilder:
    """Builds messages and targets. Raises `ConfigError` if no key can decrypt a secret."""

    keys: Keys
    clock: Clock
    share_links: ShareLinks

    def message(self, claim: ClaimedDelivery, destination: Destination, now: datetime) -> Message:
        """Return the event in the form that a destination takes."""
        event = claim.event
        page = self._job_page(event["job_id"], now) if destination.links_jobs else None
        return Message(
            event["id"], event["type"], event["body"], self.clock.stamp(), event["job_id"], page
        )

    def target(self, claim: ClaimedDelivery, now: datetime) -> Target:
        """Return where to send. Raises `ConfigError` if no key can decrypt it."""
        to = claim.subscriber
        return Target(
            self.address(claim),
            self._secrets(to, now),
            self._pairs(to["headers"]),
            to["options"],
            self._pairs(to["credentials"]),
        )

    def _pairs(self, sealed: str | None) -> Mapping[str, str]:
        """Return stored names and values, which may be secrets."""
        if sealed is None:
            return {}
        found: Mapping[str, str] = json.loads(_revealed(self.keys.decrypt, sealed))
        return found

    def _job_page(self, job_id: str | None, now: datetime) -> str | None:
        if job_id is None or not self.share_links.enabled:
            return None
        return self.share_links.link_to(job_id, now).url

    def address(self, claim: ClaimedDelivery) -> str:
        """Return the address to send to. Raises `ConfigError` if no key can decrypt it."""
        to = claim.subscriber
        if to["callback_origin"] is None:
            return _revealed(self.keys.decrypt, to["address"])
        return _revealed(self.keys.open_address, str(claim.event["callback_url"]))

    def _secrets(self, to: SubscriberRow, now: datetime) -> list[str]:
        """Return the keys that sign for a subscriber, newest first: all that are still valid."""
        if to["callback_origin"] is not None:
            return list(self.keys.callback_secrets)
        ms = epoch_ms(now)
        valid = [key for key in to["secrets"] if key["until"] is None or key["until"] > ms]
        return [_revealed(self.keys.decrypt, key["key"]) for key in valid]


@lru_cache(maxsize=4096)
def _revealed(reveal: Callable[[str], str], sealed: str) -> str:
    return reveal(sealed)
