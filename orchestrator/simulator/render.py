"""What the simulator knows: renders, what they look like at a moment, pushes, and what callers did wrong."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["submitted", "processing", "unknown", "succeeded", "failed"]
FINAL: Final = frozenset({"succeeded", "failed"})


@dataclass(frozen=True, slots=True)
class Violation:
    """Something a caller did that the vendor's document does not allow."""

    vendor: str
    path: str
    what: str


@dataclass(slots=True)
class Push:
    """One push: what was sent where and when (unix seconds). `status` stays None without an answer."""

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


@dataclass(frozen=True, slots=True)
class Names:
    """The ids of one render. Behind a gateway, pushes come from Kling itself and carry Kling's own id."""

    task: str
    push: str
    video: str


@dataclass(slots=True, eq=False)
class Render:
    """One accepted submission. `coins` are its seeded tosses, for dialects that answer in two shapes."""

    vendor: str
    endpoint: str
    capability: str
    model: str
    prompt: str | None
    seconds: str
    names: Names
    external_task_id: str | None
    callback_url: str | None
    coins: int
    verdict: Literal["succeeded", "failed"] = "succeeded"
    hidden_urls: float = 0
    accepted_at: float = field(default_factory=time.time)
    states: list[tuple[State, float]] = field(default_factory=list)
    outbox: deque[Push] = field(default_factory=deque)
    sending: bool = False
    parked: Push | None = None

    @property
    def vendor_task_id(self) -> str:
        return self.names.task

    @property
    def state(self) -> State:
        return self.states[-1][0]

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    def coin(self, n: int) -> bool:
        """Toss `n` of this render, 0 to 7."""
        return bool(self.coins >> n & 1)


@dataclass(frozen=True, slots=True)
class Sight:
    """A render as one answer or one push shows it. Times are unix milliseconds; `url` is None while it is withheld."""

    render: Render
    state: State
    created: int
    updated: int
    url: str | None = None
    message: str = ""

    @property
    def is_final(self) -> bool:
        return self.state in FINAL
