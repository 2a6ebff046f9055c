"""Kill -9, again and again, under load: `python -m tests.kill --kills 10`.

Vendors and a subscriber run in one process, the service in another that dies at seeded moments and starts again on the
same file. Callers repeat themselves with the same Idempotency-Key until they are answered. At the end an auditor reads
what all three parties know.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.audit import ASKABLE, Books, Json, complaints
from tests.caller import KEY, eventually
from tests.live import order
from tests.processes import Service, Simulator, service, simulator

POLL: Json = {"first_after": 2, "interval": 1, "max_interval": 2, "visibility_lag": 0.5, "lost_after": 5}
ACCOUNTS = ("kling", "cloudsway", "dreamto", "agentsflare", "cubicspaces", "kling_new")
FAULTS = {"cut_answer": 0.05, "drop_push": 0.05, "duplicate_push": 0.1, "server_error": 0.03, "fail_render": 0.05}
CALLERS = 16
LOST = """SELECT json_extract(detail, '$.outcome') AS outcome FROM trace
          WHERE outcome IN ('found', 'not_found', 'not_found_resend', 'waiting_for_push')"""
LIVE = "queued,submitting,submitted,processing"


@dataclass
class Run:
    """What one run came to."""

    jobs: int
    #: Seconds. What a vendor neither pushes nor can be asked about ends then.
    deadline: float
    owned: list[str] = field(default_factory=list)
    kills: int = 0
    #: Calls that were not answered, or were told to come again.
    repeats: int = 0
    #: Calls answered with a job that an earlier, unanswered call had made.
    replayed: int = 0
    exit_code: int | None = None
    seconds: float = 0.0
    report: Json = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    table: dict[str, object] = field(default_factory=dict)


async def call(run: Run, http: httpx.AsyncClient, number: int) -> None:
    """Submit one job as a careful caller does."""
    account = ACCOUNTS[number % len(ACCOUNTS)]
    body = order(account) if account in ASKABLE else order(account, deadline=run.deadline)
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = await http.post("/v1/jobs", json=body, headers={"idempotency-key": f"order-{number}"})
            if answer.status_code == httpx.codes.ACCEPTED:
                run.owned.append(answer.json()["id"])
                run.replayed += "idempotent-replayed" in answer.headers
                return
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
        run.repeats += 1
        await asyncio.sleep(0.05)


async def load(run: Run, http: httpx.AsyncClient, rng: random.Random) -> None:
    """Submit all jobs, a few at a time."""
    numbers = iter(range(run.jobs))

    async def caller() -> None:
        for number in numbers:
            await call(run, http, number)
            await asyncio.sleep(rng.uniform(0.1, 0.5))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def reaper(run: Run, it: Service, http: httpx.AsyncClient, kills: int, rng: random.Random) -> None:
    """Kill the service when so many jobs are owned, plus a moment, and start it again."""
    for moment in sorted(rng.sample(range(run.jobs // 20, run.jobs * 9 // 10), kills)):

        async def enough(moment: int = moment) -> bool:
            return len(run.owned) >= moment

        await eventually(enough, "more jobs are owned", 60)
        await it.ready(http)
        await asyncio.sleep(rng.uniform(0, 0.4))
        await it.stop(signal.SIGKILL)
        run.kills += 1
        await it.start()


async def settled(http: httpx.AsyncClient, seconds: float) -> None:
    """Wait until nothing is live and nothing is owed."""

    async def over() -> bool:
        lists = [
            await http.get(f"/v1/jobs?status={LIVE}&limit=1"),
            await http.get("/v1/deliveries?status=pending&limit=1"),
        ]
        return all(one.status_code == httpx.codes.OK and not one.json()["data"] for one in lists)

    await eventually(over, "everything ends", seconds)


async def listen(sim: Simulator, http: httpx.AsyncClient) -> None:
    """Make the simulator's subscriber hear everything."""
    body = {"url": sim.urls["hook"], "types": ["job.*", "account.*"], "max_in_flight": 32}
    made = (await http.post("/v1/subscribers", json=body)).raise_for_status().json()
    await sim.tell("/secret", secret=made["secret"])


async def execute(folder: Path, *, kills: int, jobs: int, seed: int, program: str, deadline: float) -> Run:
    """Run it all and audit it."""
    run, rng, started = Run(jobs, deadline), random.Random(seed), time.monotonic()
    accounts = {name: {"max_in_flight": 60, "poll": POLL} for name in ACCOUNTS}
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        simulator(folder, FAULTS, seed=seed) as sim,
        service(folder, sim, accounts, program=program) as it,
        httpx.AsyncClient(base_url=it.url, headers=headers, timeout=10) as http,
    ):
        await it.ready(http)
        await listen(sim, http)
        await asyncio.gather(load(run, http, rng), reaper(run, it, http, kills, rng))
        await it.ready(http)
        await settled(http, deadline + 30)
        run.exit_code = await it.stop()
        run.report, books = await sim.report(), Books(it.database)
    run.wrong = complaints(books, run.owned, run.report)
    run.seconds = time.monotonic() - started
    run.table = figures(run, books)
    return run


def figures(run: Run, books: Books) -> dict[str, object]:
    """Return what a reader of the run wants to know."""
    pushes, heard = run.report["pushes"], run.report["subscriber"]
    twice = [one for one in run.report["double_renders"] if one["vendor"] in ASKABLE]
    return {
        "kills": run.kills,
        "jobs acknowledged": len(run.owned),
        "  calls repeated by callers": run.repeats,
        "  answered with an earlier call's job": run.replayed,
        "jobs by state": dict(books.count("SELECT state FROM job")),
        "jobs by who said so": dict(books.count("SELECT resolved_by FROM job")),
        "errors": dict(books.count("SELECT json_extract(error, '$.code') FROM job WHERE error IS NOT NULL")),
        "lost submissions": dict(books.count(LOST)),
        "renders accepted by vendors": len(run.report["renders"]),
        "renders made twice by who can be asked": len(twice),
        "pushes by answer": dict(Counter(str(one["status"]) for one in pushes)),
        "pushes kept": len(books.rows("SELECT id FROM push")),
        "completion events": sum(heard["completions"].values()),
        "deliveries": len(heard["deliveries"]),
        "  repeated under the same webhook-id": sum(heard["duplicates"].values()),
        "violations": len(run.report["violations"]),
        "complaints of the auditor": len(run.wrong),
        "seconds": round(run.seconds, 1),
    }


def main() -> None:
    """Run from the command line; exit code 1 if the auditor complains."""
    parser = argparse.ArgumentParser(prog="tests.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hasty", action="store_true", help="claims of seconds, so that the end comes sooner")
    given = parser.parse_args()
    program, deadline = ("tests.hasty", 20.0) if given.hasty else ("orchestrator", 240.0)
    with tempfile.TemporaryDirectory() as name:
        run = asyncio.run(
            execute(Path(name), kills=given.kills, jobs=given.jobs, seed=given.seed, program=program, deadline=deadline)
        )
    for what, value in run.table.items():
        print(f"{what:<42}{value}")
    for one in run.wrong[:20]:
        print(f"  ! {one}")
    sys.exit(1 if run.wrong else 0)


if __name__ == "__main__":
    main()
