"""The state of one run: event loop, replicas, vendors, clients and random numbers."""

from __future__ import annotations

import asyncio
import contextvars
import random
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import httpx

from orchestrator.events import subscribers
from orchestrator.events.destinations import load
from orchestrator.foundation.clock import after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Keys
from tests.harness.api_caller import KEY
from tests.simulate.asgi import Response
from tests.simulate.clients import Caller, Subscriber
from tests.simulate.clock import START, SkewedClock
from tests.simulate.committed_rows import CommittedRows
from tests.simulate.database import empty_engine, engine
from tests.simulate.dialects import error_response
from tests.simulate.invariants import Checker
from tests.simulate.loop import Process, VirtualLoop
from tests.simulate.network import Peer
from tests.simulate.plan import Plan
from tests.simulate.replica import Replica
from tests.simulate.sessions import Locks
from tests.simulate.trace import Trace
from tests.simulate.vendors import SECRET, SIGNED, Gateway
from tests.simulate.warm import MODELS, insert_known, poll_of
from tests.simulate.wishes import Wish, wish_of
from tests.simulate.writers import CommitFate

SECRET_KEY = "simulated-key-" + "k" * 32
#: The fate of a commit by its fault.
_FATES: Mapping[str, CommitFate] = {
    "crash_before_commit": CommitFate.CRASH_BEFORE,
    "crash_after_commit": CommitFate.CRASH_AFTER,
    "failed_commit": CommitFate.FAILED,
    "uncertain_commit": CommitFate.UNCERTAIN,
    "late_commit": CommitFate.LATE,
}


class Violation(Exception):
    """An invariant does not hold."""


def settings_of(plan: Plan) -> Settings:
    """Return the settings of every replica."""
    common = {"api_key": "k", "max_in_flight": plan.slots}

    def account(name: str, vendor: str, **more: Any) -> dict[str, Any]:
        mine = {"base_url": f"https://{name}.example.com", "poll": poll_of(plan, name)}
        return common | {"vendor": vendor} | mine | more

    accounts = {
        "kling": account("kling", "kling", signature="required", webhook_secrets=[SECRET]),
        "new": account("new", "kling", options={"standard": "new"}),
        "flare": account("flare", "agentsflare"),
        "dream": account("dream", "dreamto", on_lost_submit="at_least_once"),
        "keyed": account("keyed", "kling"),
    }
    assert SIGNED in accounts
    given = {
        "secret_keys": [SECRET_KEY],
        "public_url": "https://hooks.example.com",
        "api_keys": [KEY],
    }
    return Settings.model_validate(given | {"accounts": accounts})


class World:
    """All parts of a run."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.settings = settings
        self.rng = random.Random(f"dice {plan.seed}")
        self._steps = random.Random(f"steps {plan.seed}")
        self._schedules = random.Random(f"schedules {plan.seed}")
        self._shapes = random.Random(f"odd shapes {plan.seed}")
        self._models = random.Random(f"models {plan.seed}")
        self._memory = random.Random(f"memory {plan.seed}")
        self._sessions = random.Random(f"sessions {plan.seed}")
        self.loop = VirtualLoop(random.Random(f"order {plan.seed}"), self._step)
        self.trace = Trace(self.loop.time)
        #: The locks of processes at a shared server; None on SQLite.
        self.locks = None if plan.sqlite else Locks(self.loop.time)
        self.counts: Counter[str] = Counter()
        self.calm = False
        #: The context of vendors and clients: no crash of a replica affects them.
        self._outside = contextvars.copy_context()
        with empty_engine().connect() as connection:
            driver = connection.connection.driver_connection
        assert driver is not None
        with engine().begin() as tx:
            insert_known(tx, plan)
        self.checker = Checker(self, CommittedRows(driver))
        self.gateways = {name: Gateway(self, name) for name in settings.accounts}
        self.subscribers = [
            Subscriber(self, f"s{n}.example.com", answers=True) for n in range(plan.subscribers)
        ]
        if plan.silent_subscriber:
            self.subscribers.append(Subscriber(self, "silent.example.com", answers=False))
        self._callback_receiver = Subscriber(self, "caller.example.com", answers=True)
        self._create_subscribers()
        self.callers = [Caller(self, number) for number in range(plan.jobs)]
        skews = [self.rng.uniform(-plan.skew, plan.skew) for _ in range(plan.replicas)]
        self.replicas = [Replica(self, f"r{n}", skew) for n, skew in enumerate(skews)]
        subscribers = [*self.subscribers, self._callback_receiver]
        self._peers: dict[str, Peer] = {subscriber.host: subscriber for subscriber in subscribers}
        self._peers |= {f"{name}.example.com": studio for name, studio in self.gateways.items()}

    def _create_subscribers(self) -> None:
        """Insert the subscribers and keep their secrets."""
        keys, clock = Keys([SECRET_KEY]), SkewedClock(self.loop.time, 0)
        ids = Ids(clock, random.Random(f"people {self.plan.seed}"))
        wishes = random.Random(f"wishes {self.plan.seed}")
        self._callback_receiver.secret = keys.callback_secrets[0]
        with engine().begin() as tx:
            for subscriber in self.subscribers:
                chosen = self.rng.choice(
                    (["job.*"], ["job.*"], ["*"], ["job.succeeded", "job.failed", "job.expired"])
                )
                types = chosen if subscriber.answers else ["job.succeeded"]
                subscriber.wish = wish_of(wishes)
                row, secret = subscribers.new(
                    ids, keys, destination=load()["webhook"], url=f"https://{subscriber.host}/",
                    types=types, description="", headers={}, options={},
                    rate_limit=None, max_in_flight=8, now=after(START, 0),
                    filter=subscriber.wish.filter, ordered=subscriber.wish.ordered,
                )  # fmt: skip
                subscribers.add(tx, row)
                subscriber.id, subscriber.secret = row["id"], str(secret)

    # -- random faults

    def occurs(self, fault: str) -> bool:
        """True if a fault occurs now."""
        chance = self.plan.faults.get(fault)
        if self.calm or chance is None or self.rng.random() >= chance:
            return False
        self.counts[fault] += 1
        return True

    def odd_shapes(self) -> random.Random | None:
        """Return the source of an odd shape if an answer or push has one, in calm too."""
        if self._shapes.random() >= self.plan.odd_shapes:
            return None
        self.counts["odd_shapes"] += 1
        return self._shapes

    def schedule(self) -> dict[str, Any]:
        """Draw the priority, the fairness key and the start of a job: often that of the others."""
        drawn = self._schedules
        together = after(START, self.plan.submit_until).isoformat()
        body = {
            "priority": drawn.choice((-10, 0, 0, 10)),
            "fairness_key": drawn.choice(("a", "a", "b", "c")),
            "start_after": drawn.choice((0, 40, together, together)),
        }
        if drawn.random() >= self.plan.scheduled:
            return {}
        self.counts["scheduled"] += 1
        return body

    def model(self) -> str:
        """Draw the model of a job."""
        return self._models.choice(MODELS)

    def forgotten(self) -> tuple[float, float]:
        """Draw from when until when a vendor does not know a render, in seconds of its age."""
        begin, end = self._memory.uniform(20, 60), self._memory.uniform(80, 110)
        if self.calm or self._memory.random() >= self.plan.forgetful:
            return 0.0, 0.0
        self.counts["forgotten_render"] += 1
        return begin, end

    def refusal(self, account: str, *, is_order: bool) -> httpx.Response | None:
        """Return the answer of a vendor that refuses the account now, if it does.

        One without a balance answers queries.
        """
        if self.plan.refused is None or self.calm:
            return None
        name, begin, end, is_exhausted = self.plan.refused
        if account != name or not begin <= self.loop.time() < end or (is_exhausted > is_order):
            return None
        self.counts["refused_account"] += 1
        if is_exhausted:
            return error_response(429, 1102, "resource pack depleted")
        return error_response(401, 1002, "authorization is invalid")

    def commit_fate(self) -> CommitFate:
        """Draw the fate of a commit."""
        return next((fate for fault, fate in _FATES.items() if self.occurs(fault)), CommitFate.FINE)

    def _step(self, process: Process) -> None:
        """Draw whether a process crashes or freezes before its next step."""
        faults = self.plan.faults
        if self.calm or not ("crash" in faults or "freeze" in faults):
            return
        drawn, crash = self._steps.random(), faults.get("crash", 0.0)
        if drawn >= crash + faults.get("freeze", 0.0):
            return
        replica = next(replica for replica in self.replicas if replica.process is process)
        if drawn < crash and self._steps.random() < 0.8:
            self.counts["crash"] += 1
            replica.die()
        elif drawn < crash:
            self.counts["drain"] += 1
            replica.drain()
        else:
            self.counts["freeze"] += 1
            replica.freeze(self._steps.uniform(1, 200))

    # -- replicas

    def schedule_restart(self, replica: Replica) -> None:
        """Restart a crashed replica after a while."""
        self.counts["deaths"] += 1
        wait = self.rng.choice((0.2, 2.0, 20.0, 60.0))
        self.loop.call_later(wait, replica.start, context=self._outside.copy())

    def on_commit(self, replica: Replica) -> None:
        """Check a commit."""
        self.counts["commits"] += 1
        due = self.checker.next_due.first
        self.checker.commit(replica)
        if not self.calm and self._sessions.random() < self.plan.lost_sessions:
            self.counts["lost_session"] += 1
            self._sessions.choice(self.replicas).lose_session()
        if self.occurs("freeze_after_commit"):
            replica.freeze(self.rng.uniform(1, 200))
        if self.checker.next_due.first < due:
            self.wake_tickers()

    def session_ends_in_freeze(self) -> bool:
        """Draw whether the session of a process ends while it stands still, for a short time."""
        return self.plan.lost_sessions > 0 and self._sessions.random() < 0.5

    def submission_left(self, name: str) -> None:
        """Draw whether the process dies that has just sent a submission."""
        if not self.calm and self._sessions.random() < self.plan.deadly_submissions:
            self.counts["deadly_submission"] += 1
            replica = next(each for each in self.replicas if each.name == name)
            self.later(0.0, replica.die)

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        """Run a function later, whatever becomes of the replicas."""
        self.loop.call_later(seconds, run, context=self._outside.copy())

    @property
    def has_lost_processes(self) -> bool:
        """True if the session of a process with a number has ended."""
        with engine().connect() as tx:
            return self.locks is not None and self.locks.has_lost(tx)

    def wake_tickers(self) -> None:
        """Run the next tick of every replica early."""
        for replica in self.replicas:
            replica.wake_ticker()

    def wake_others(self, replica: Replica, stage: str) -> None:
        """Wake a stage of the other replicas. Half of the notifications are lost."""
        for replica in self.replicas:
            if replica is not replica and replica.runtime is not None and self.rng.random() < 0.5:
                replica.runtime.notifier.wake(stage)

    # -- requests

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that no crash of a replica affects."""
        task = self.loop.create_task(work, context=self._outside.copy())
        task.add_done_callback(self.check_task)
        return task

    def check_task(self, task: asyncio.Task[None]) -> None:
        """Report the exception of a failed task as a violation."""
        if not task.cancelled() and (error := task.exception()) is not None:
            trouble = "".join(traceback.format_exception(error))
            self.report_violation(f"a task failed: {trouble}")

    def lane_of(self, host: str) -> str | None:
        """Return the id of the subscriber at a host name, or of the lane of the host."""
        known = next((each.id for each in self.subscribers if each.host == host), None)
        lanes = self.checker.committed.subscribers.values()
        return known or next((each.id for each in lanes if each.callback_origin), None)

    def wish_of(self, subscriber_id: str) -> Wish:
        """Return what a subscriber wishes beyond its types."""
        return next(each.wish for each in self.subscribers if each.id == subscriber_id)

    def peer(self, host: str) -> Peer:
        """Return the server at a host name."""
        return self._peers[host]

    def accepted(self, subscriber_id: str, event_id: str) -> bool:
        """True if a subscriber has accepted an event."""
        subscriber = next(
            (subscriber for subscriber in self.subscribers if subscriber.id == subscriber_id),
            self._callback_receiver,
        )
        return subscriber.accepted[event_id] > 0

    async def call(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Response | None:
        """Send a request to a random running replica.

        Return None if none runs or the answer is lost.
        """
        await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.1)))
        up = [replica for replica in self.replicas if replica.is_up]
        if not up or self.occurs("lost_request"):
            return None
        answered = await self.rng.choice(up).request(method, path, body, headers)
        await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.1)))
        return None if self.occurs("lost_answer") else answered

    def report_violation(self, what: str) -> None:
        """Record a violation and end the run with it."""
        self.trace.add("VIOLATION", what)
        self.loop.fail(Violation(what))
