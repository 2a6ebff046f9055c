"""The API's responses. One file per resource: the columns it is shown from (a `TypedDict`), its
pydantic model, a fast writer without pydantic, and an example made by that writer.

The OpenAPI document is made of the models, and the Python client returns them. Times are RFC 3339
in UTC. Fields are only ever added: readers ignore unknown ones.
"""

from __future__ import annotations

from orchestrator.schemas.accounts import (
    Account,
    AccountCheck,
    ApiKey,
    Hold,
    ModelLatency,
    NewApiKey,
    RefusedPushes,
    SigningKey,
)
from orchestrator.schemas.base import Fault, Page, Problem, Shape, document
from orchestrator.schemas.deliveries import (
    Attempt,
    Delivery,
    DeliveryRequest,
    DeliveryWait,
    TriedDelivery,
)
from orchestrator.schemas.destinations import DestinationKind, DestinationOption
from orchestrator.schemas.events import (
    AccountFact,
    AccountTrouble,
    Event,
    IngressTrouble,
    LoggedEvent,
    StreamTicket,
)
from orchestrator.schemas.jobs import (
    Job,
    JobError,
    JobLinks,
    Output,
    OutputFile,
    ShareLink,
    TimelineEntry,
)
from orchestrator.schemas.pushes import Push
from orchestrator.schemas.replays import (
    AccountShare,
    EventReplay,
    Replay,
    ReplayCount,
    ReplayFilter,
    ReplaySample,
    RetryFilter,
    SubscriberShare,
)
from orchestrator.schemas.service import (
    Alive,
    Check,
    OpenApi,
    PushRefusal,
    Readiness,
    Taken,
    VendorAnswer,
)
from orchestrator.schemas.stats import (
    AccountHistory,
    History,
    HistoryBucket,
    HistoryCounts,
    LatencyCount,
    LatencyDistribution,
    QueueAges,
    Rates,
    Stats,
)
from orchestrator.schemas.submissions import AccountInput, VendorRequest
from orchestrator.schemas.subscribers import (
    Backlog,
    CallbackHealth,
    ChangedSubscriber,
    Explanation,
    NewSubscriber,
    RotatedSubscriber,
    Subscriber,
    SubscriberRetry,
    TestEvent,
    TestLinks,
)

__all__ = [
    "Account",
    "AccountCheck",
    "AccountFact",
    "AccountHistory",
    "AccountInput",
    "AccountShare",
    "AccountTrouble",
    "Alive",
    "ApiKey",
    "Attempt",
    "Backlog",
    "CallbackHealth",
    "ChangedSubscriber",
    "Check",
    "Delivery",
    "DeliveryRequest",
    "DeliveryWait",
    "DestinationKind",
    "DestinationOption",
    "Event",
    "EventReplay",
    "Explanation",
    "Fault",
    "History",
    "HistoryBucket",
    "HistoryCounts",
    "Hold",
    "IngressTrouble",
    "Job",
    "JobError",
    "JobLinks",
    "LatencyCount",
    "LatencyDistribution",
    "LoggedEvent",
    "ModelLatency",
    "NewApiKey",
    "NewSubscriber",
    "OpenApi",
    "Output",
    "OutputFile",
    "Page",
    "Problem",
    "Push",
    "PushRefusal",
    "QueueAges",
    "Rates",
    "Readiness",
    "RefusedPushes",
    "Replay",
    "ReplayCount",
    "ReplayFilter",
    "ReplaySample",
    "RetryFilter",
    "RotatedSubscriber",
    "Shape",
    "ShareLink",
    "SigningKey",
    "Stats",
    "StreamTicket",
    "Subscriber",
    "SubscriberRetry",
    "SubscriberShare",
    "Taken",
    "TestEvent",
    "TestLinks",
    "TimelineEntry",
    "TriedDelivery",
    "VendorAnswer",
    "VendorRequest",
    "document",
]
