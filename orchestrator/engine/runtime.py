"""The runtime: everything that was assembled at start, and nothing that acts.

A stage declares what it uses as the fields of a dataclass; `Runtime.assemble` fills them in by
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

from orchestrator.database.store import Store
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.engine.first_claims import FirstClaims
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.push_pacing import PushPacing
from orchestrator.engine.ticker import Pulse
from orchestrator.events.destinations import Destination
from orchestrator.events.feed import EventFeed
from orchestrator.foundation.admission import Admission, SharedAdmission
from orchestrator.foundation.clock import Clock, Rng
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.orders import OrderBuilder
from orchestrator.jobs.share_links import ShareLinks
from orchestrator.vendors.contract import Vendor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

StageT = TypeVar("StageT", bound="DataclassInstance")


@dataclass(slots=True)
class Runtime:
    """Made once, by `app.build`. `vendors` is by account name, `destinations` by kind."""

    settings: Settings
    clock: Clock
    rng: Rng
    ids: Ids
    keys: Keys
    store: Store
    learning: Learning
    ledger: Ledger
    #: For status queries and deliveries: keeps connections open.
    http_client: HttpClient
    #: For submissions: a fresh connection each, since a stale one can lose a POST half-way.
    submission_client: HttpClient
    #: For deliveries to brokers: starts a thread with the first one.
    publishers: PublisherPool
    address_policy: AddressPolicy
    vendors: Mapping[str, Vendor]
    destinations: Mapping[str, Destination]
    orders: OrderBuilder
    share_links: ShareLinks
    metrics: Metrics
    feed: EventFeed
    notifier: Notifier
    push_pacing: PushPacing
    first_claims: FirstClaims
    pulse: Pulse
    #: Slots for callers that are kept waiting: streams, long polls, `Prefer: wait`.
    waiting_slots: Admission
    #: Slots, and bytes of bodies, of requests to the API; a share for each key.
    bodies: Admission
    #: Bytes of large responses that are being sent; a share for each key.
    responses: SharedAdmission

    @property
    def base(self) -> str:
        """Our public URL, without a slash at its end."""
        return self.settings.base_url

    def assemble(self, stage: type[StageT]) -> StageT:
        """Return a stage with its fields taken from here, by name."""
        return stage(**{one.name: getattr(self, one.name) for one in fields(stage) if one.init})
