"""The world of one run: the loop, the replicas, everybody they talk to, and chance."""

from __future__ import annotations

import asyncio
import contextvars
import random
import traceback
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any

from orchestrator.events import subscribers
from orchestrator.events.destinations import load
from orchestrator.foundation.clock import after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Keys
from tests.harness.api_caller import KEY
from tests.simulate.books import Books
from tests.simulate.database import emptied, engine
from tests.simulate.doors import Answered
from tests.simulate.invariants import Checker
from tests.simulate.loop import Process, VirtualLoop
from tests.simulate.network import Peer
from tests.simulate.people import Caller, Subscriber
from tests.simulate.plan import Plan
from tests.simulate.replica import Replica
from tests.simulate.start import START, SkewedClock
from tests.simulate.trace import Trace
from tests.simulate.vendors import SECRET, SIGNED, Studio
from tests.simulate.writers import Fate

SECRET_KEY = "simulated-key-" + "k" * 32
POLL = {
    "first_after": 30,
    "interval": 10,
    "max_interval": 40,
    "output_grace": 60,
    "lost_after": 120,
}
#: Fates of a commit, each by the fault that brings it.
_FATES: Mapping[str, Fate] = {
    "crash_before_commit": Fate.CRASH_BEFORE,
    "crash_after_commit": Fate.CRASH_AFTER,
    "failed_commit": Fate.FAILED,
    "uncertain_commit": Fate.UNCERTAIN,
    "late_commit": Fate.LATE,
}


class Violation(Exception):
    """Something is not as it must be."""


def settings_of(plan: Plan) -> Settings:
    """Return the configuration of every replica."""
    common = {
        "api_key": "k",
        "base_url": "https://{}.example.com",
        "max_in_flight": plan.slots,
        "poll": POLL,
    }

    def account(name: str, vendor: str, **more: Any) -> dict[str, Any]:
        return common | {"vendor": vendor, "base_url": f"https://{name}.example.com"} | more

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
    """Everything there is in a run."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.settings = settings
        self.dice = random.Random(f"dice {plan.seed}")
        self._steps = random.Random(f"steps {plan.seed}")
        self.loop = VirtualLoop(random.Random(f"order {plan.seed}"), self._step)
        self.trace = Trace(self.loop.time)
        self.counts: Counter[str] = Counter()
        self.calm = False
        #: Nobody at all, to whom replicas talk: what runs in it dies with none of them.
        self._outside = contextvars.copy_context()
        with emptied().connect() as connection:
            driver = connection.connection.driver_connection
        assert driver is not None
        self.checker = Checker(self, Books(driver))
        self.studios = {name: Studio(self, name) for name in settings.accounts}
        self.subscribers = [
            Subscriber(self, f"s{n}.example.com", answers=True) for n in range(plan.subscribers)
        ]
        if plan.dead_end:
            self.subscribers.append(Subscriber(self, "silent.example.com", answers=False))
        self._lane = Subscriber(self, "caller.example.com", answers=True)
        self._enlist()
        self.callers = [Caller(self, number) for number in range(plan.jobs)]
        skews = [self.dice.uniform(-plan.skew, plan.skew) for _ in range(plan.replicas)]
        self.replicas = [Replica(self, f"r{n}", skew) for n, skew in enumerate(skews)]
        people = [*self.subscribers, self._lane]
        self._peers: dict[str, Peer] = {person.host: person for person in people}
        self._peers |= {f"{name}.example.com": studio for name, studio in self.studios.items()}

    def _enlist(self) -> None:
        """Write the subscribers down, and learn their secrets."""
        keys, clock = Keys([SECRET_KEY]), SkewedClock(self.loop.time, 0)
        ids = Ids(clock, random.Random(f"people {self.plan.seed}"))
        self._lane.secret = keys.callback_secrets[0]
        with engine().begin() as tx:
            for person in self.subscribers:
                chosen = self.dice.choice(
                    (["job.*"], ["job.*"], ["*"], ["job.succeeded", "job.failed", "job.expired"])
                )
                types = chosen if person.answers else ["job.succeeded"]
                row, secret = subscribers.new(
                    ids, keys, destination=load()["webhook"], url=f"https://{person.host}/", types=types,
                    description="", headers={}, options={}, rate_limit=None, max_in_flight=8,
                    now=after(START, 0),
                )  # fmt: skip
                subscribers.add(tx, row)
                person.id, person.secret = row["id"], str(secret)

    # -- chance

    def strikes(self, fault: str) -> bool:
        """True if a fault is to happen now."""
        chance = self.plan.faults.get(fault)
        if self.calm or chance is None or self.dice.random() >= chance:
            return False
        self.counts[fault] += 1
        return True

    def commit_fate(self) -> Fate:
        """Draw what becomes of a commit."""
        return next((fate for fault, fate in _FATES.items() if self.strikes(fault)), Fate.FINE)

    def _step(self, process: Process) -> None:
        """Draw whether a process is to crash or freeze before its next step."""
        faults = self.plan.faults
        if self.calm or not ("crash" in faults or "freeze" in faults):
            return
        drawn, crash = self._steps.random(), faults.get("crash", 0.0)
        if drawn >= crash + faults.get("freeze", 0.0):
            return
        replica = next(one for one in self.replicas if one.process is process)
        if drawn < crash and self._steps.random() < 0.8:
            self.counts["crash"] += 1
            replica.die()
        elif drawn < crash:
            self.counts["drain"] += 1
            replica.drain()
        else:
            self.counts["freeze"] += 1
            replica.freeze(self._steps.uniform(1, 200))

    # -- what happens to replicas

    def died(self, replica: Replica) -> None:
        """Start it again after a while."""
        self.counts["deaths"] += 1
        wait = self.dice.choice((0.2, 2.0, 20.0, 60.0))
        self.loop.call_later(wait, replica.start, context=self._outside.copy())

    def committed(self, replica: Replica) -> None:
        """Check what a replica has committed."""
        self.counts["commits"] += 1
        due = self.checker.agenda.first
        self.checker.commit(replica)
        if self.strikes("freeze_after_commit"):
            replica.freeze(self.dice.uniform(1, 200))
        if self.checker.agenda.first < due:
            for one in self.replicas:
                one.rouse()

    def wake_others(self, replica: Replica, stage: str) -> None:
        """Tell the other replicas that a stage has work. Half the time that is lost."""
        for one in self.replicas:
            if one is not replica and one.runtime is not None and self.dice.random() < 0.5:
                one.runtime.notifier.wake(stage)

    # -- talk

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that no replica's crash touches."""
        task = self.loop.create_task(work, context=self._outside.copy())
        task.add_done_callback(self.ended)
        return task

    def ended(self, task: asyncio.Task[None]) -> None:
        """Take a task that failed for a violation."""
        if not task.cancelled() and (error := task.exception()) is not None:
            trouble = "".join(traceback.format_exception(error))
            self.complain(f"a task failed: {trouble}")

    def peer(self, host: str) -> Peer:
        """Return who has an address."""
        return self._peers[host]

    def taken(self, subscriber_id: str, event_id: str) -> bool:
        """True if a subscriber has taken an event."""
        person = next((one for one in self.subscribers if one.id == subscriber_id), self._lane)
        return person.taken[event_id] > 0

    async def call(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answered | None:
        """Send a request to whichever replica is up; None if nobody is, or the answer is lost."""
        await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.1)))
        up = [one for one in self.replicas if one.is_up]
        if not up or self.strikes("lost_request"):
            return None
        answered = await self.dice.choice(up).request(method, path, body, headers)
        await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.1)))
        return None if self.strikes("lost_answer") else answered

    def complain(self, what: str) -> None:
        """Say that something is not as it must be. The run ends with that."""
        self.trace.say("VIOLATION", what)
        self.loop.fail(Violation(what))
