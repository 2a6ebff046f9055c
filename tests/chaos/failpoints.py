"""Failpoints: product functions wrapped from outside, at which a process sends itself a signal."""

from __future__ import annotations

import inspect
import itertools
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

from orchestrator.api.job_submission import JobSubmission
from orchestrator.database import schema
from orchestrator.egress.transport import GuardedTransport
from orchestrator.engine import submit_outcome
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.poll import Poller
from orchestrator.engine.receive import Receiver
from orchestrator.engine.submit import Submitter
from orchestrator.jobs import intake
from orchestrator.jobs.ledger import Ledger

Call = Callable[..., Any]
When = Literal["before", "after", "after some"]


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after each call of `owner.name`, or after each call with a true result.

    "after" in a transaction is before its commit.
    """

    owner: object
    name: str
    when: When


POINTS = {
    "starting": Point(schema, "prepare", "after"),
    "accept: before commit": Point(intake, "create_jobs", "after"),
    "accept: committed, 202 not seen": Point(JobSubmission, "_answer", "before"),
    "submit: before the claim's commit": Point(Ledger, "begin", "after some"),
    "submit: claimed, not sent": Point(Submitter, "_submit", "before"),
    "egress: connected, not sent": Point(GuardedTransport, "_connect", "after"),
    "submit: sent, answer lost": Point(submit_outcome, "accepted", "before"),
    "submit: before the answer's commit": Point(Submitter, "_record", "after"),
    "push: before commit": Point(Receiver, "_record", "after"),
    "push: committed, 200 lost": Point(Receiver, "_accept", "after"),
    "poll: asked, before commit": Point(Poller, "_record", "after"),
    "deliver: claimed, not sent": Point(Deliverer, "_attempt", "before"),
    "deliver: sent, not recorded": Point(Deliverer, "_attempt", "after"),
    "deliver: before the record's commit": Point(Deliverer, "_record", "after"),
}


def arm(name: str, passage: int, how: signal.Signals) -> None:
    """Send a signal to this process at the n-th passage (from 1) of a point.

    SIGSTOP continues when resumed.
    """
    point, passages = POINTS[name], itertools.count(1)

    def strike() -> None:
        if next(passages) == passage:
            os.kill(os.getpid(), how)

    setattr(point.owner, point.name, _wrapped(getattr(point.owner, point.name), strike, point.when))


def _wrapped(original: Call, strike: Callable[[], None], when: When) -> Call:
    if inspect.iscoroutinefunction(original):
        return _wrapped_later(original, strike, when)

    @wraps(original)
    def call(*args: Any, **fault_named: Any) -> Any:
        if when == "before":
            strike()
        value = original(*args, **fault_named)
        if when == "after" or (when == "after some" and value):
            strike()
        return value

    return call


def _wrapped_later(
    original: Callable[..., Coroutine[Any, Any, Any]], strike: Callable[[], None], when: When
) -> Call:
    @wraps(original)
    async def call(*args: Any, **fault_named: Any) -> Any:
        if when == "before":
            strike()
        value = await original(*args, **fault_named)
        if when == "after" or (when == "after some" and value):
            strike()
        return value

    return call
