"""What the simulator records: renders, pushes, and requests that break a vendor's document."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from orchestrator.simulator.task_ids import TaskIds

State: TypeAlias = Literal["submitted", "processing", "unknown", "succeeded", "failed"]
STATES: Final[tuple[State, ...]] = ("submitted", "processing", "unknown", "succeeded", "failed")
FINAL: Final = frozenset({"succeeded", "failed"})


@dataclass(frozen=True, slots=True)
class Violation:
    """A request that the vendor's document does not allow. `what` is the error."""

    vendor: str
    path: str
    what: str


@dataclass(slots=True)
class Push:
    """One attempt at a push. `at` is in unix seconds; `status` stays None without a response."""

    vendor: str
    vendor_task_id: str
    external_task_id: str | None
    state: State
    kind: Literal["push", "dropped", "duplicate", "forged", "stale"]
    url: str
    message_id: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    at: float | None = None
    status: int | None = None
    error: str | None = None


@dataclass(slots=True, eq=False)
class Render:
    """One accepted submission.

    `bits` are eight seeded bits, for dialects that answer in several shapes. `outcome` is the
    planned final state. The URL is withheld `withhold_url` more times. `is_keyed`: the clip is
    served only with the key. `is_marked`: a copy with a watermark was ordered.
    """

    vendor: str
    endpoint: str
    capability: str
    model: str
    prompt: str | None
    seconds: str
    ids: TaskIds
    external_task_id: str | None
    callback_url: str | None
    bits: int
    outcome: Literal["succeeded", "failed"] = "succeeded"
    withhold_url: float = 0
    is_keyed: bool = False
    is_marked: bool = False
    accepted_at: float = field(default_factory=time.time)
    states: list[tuple[State, float]] = field(default_factory=list)
    push_queue: deque[Push] = field(default_factory=deque)
    is_sending: bool = False
    held_push: Push | None = None

    @property
    def vendor_task_id(self) -> str:
        return self.ids.task

    @property
    def state(self) -> State:
        return self.states[-1][0]

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    def bit(self, n: int) -> bool:
        """Return seeded bit `n`, 0 to 7."""
        return bool(self.bits >> n & 1)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A render as one response or one push shows it.

    Times are in unix milliseconds. `url` is None while it is withheld.
    """

    render: Render
    state: State
    created: int
    updated: int
    url: str | None = None
    message: str = ""

    @property
    def watermark_url(self) -> str:
        """The URL of the copy with a watermark; empty if there is none."""
        return f"{self.url}?watermark" if self.url and self.render.is_marked else ""

    @property
    def is_final(self) -> bool:
        return self.state in FINAL
