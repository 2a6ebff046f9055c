"""One run: a service on a database that fails over under load, and the audit."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos.load import listen, settled
from tests.chaos.proxy import Proxy
from tests.failover.callers import ACCOUNTS, Callers
from tests.failover.kills import Kind, Recovery, strike
from tests.failover.patroni import Cluster
from tests.failover.routes import ROUTES
from tests.harness.api_caller import KEY
from tests.harness.audit import Finding, Json, Observed, ServiceDatabase, findings
from tests.harness.processes import Replica, Simulator, simulated, simulator

#: Processes of the service.
_REPLICAS = 2
_MAX_IN_FLIGHT = 30
#: Seconds. Pushes that an outage refuses are missing: polls find the results soon.
_POLL: Json = {"first_after": 3, "interval": 1, "max_interval": 2, "visibility_lag": 0.5}
#: Seconds for a request: more than a transaction may take.
_TIMEOUT = 15.0
_SETTLE = 120.0


@dataclass
class Result:
    """What came of a run."""

    kills: list[Recovery] = field(default_factory=list)
    #: Orders and pushes that were acknowledged.
    orders: int = 0
    pushes: int = 0
    refused: int = 0
    wrong: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, *kinds: str) -> int:
        """Return the number of findings of some kinds."""
        return sum(finding.kind in kinds for finding in self.wrong)

    def gone(self, words: str) -> int:
        """Return the number of findings that begin with these words."""
        return sum(finding.words.startswith(words) for finding in self.wrong)


async def run(
    cluster: Cluster, place: Path, route: str, database: str, kills: Sequence[Kind], seed: int
) -> Result:
    """Kill the primary so often under load, then audit what is left."""
    started, result = time.monotonic(), Result()
    await asyncio.to_thread(cluster.create_database, database)
    folder = Path(tempfile.mkdtemp(prefix="failover-service-"))
    with ROUTES[route](cluster, place) as hosts:
        url = f"postgresql://postgres@{hosts}/{database}"
        async with simulator(folder, {}, seed=seed, program="tests.chaos.simulator") as sim:
            callers = await _serve(cluster, sim, folder, url, kills, result)
            report = await sim.report()
    primary = await asyncio.to_thread(cluster.primary)
    books = ServiceDatabase(f"postgresql://postgres@127.0.0.1:{primary.port}/{database}")
    result.orders, result.refused = len(callers.owned), len(callers.refusals)
    result.pushes = sum(push["status"] == httpx.codes.OK for push in report["pushes"])
    result.wrong += findings(books, Observed(callers.owned, report, _MAX_IN_FLIGHT))
    result.seconds = time.monotonic() - started
    if result.wrong and cluster.synchronous:
        print(f"the logs of the service are in {folder}", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(folder)
    return result


async def _serve(
    cluster: Cluster, sim: Simulator, folder: Path, url: str, kills: Sequence[Kind], result: Result
) -> Callers:
    """Run the service, the load and the kills until all work has ended."""
    settings: Json = {"max_in_flight": _MAX_IN_FLIGHT, "poll": _POLL}
    accounts = simulated(sim.urls["url"], dict.fromkeys(ACCOUNTS, settings))
    replicas: list[Replica] = []
    rng = random.Random(1)
    headers = {"authorization": f"Bearer {KEY}"}

    def ports() -> list[int]:
        return rng.sample([replica.port for replica in replicas], len(replicas))

    async with (
        Proxy(ports, rng) as front,
        httpx.AsyncClient(base_url=front.url, headers=headers, timeout=_TIMEOUT) as http,
    ):
        for number in range(_REPLICAS):
            name = f"replica-{number}"
            replicas.append(
                Replica(folder, accounts, name=name, database=url, public_url=front.url)
            )
        callers = Callers(http, rng)
        try:
            for replica in replicas:
                await replica.start()
                await replica.ready(http)
            await listen(sim, http, sim.urls["hook"], sim.urls["slack"])
            await _load(cluster, callers, kills, result)
            await settled(http, _SETTLE)
        except AssertionError as error:
            result.wrong.append(Finding("stuck", str(error)))
        finally:
            codes = await asyncio.gather(*(it.stop() for it in replicas if it.child is not None))
        if {*codes} - {0, -signal.SIGTERM}:
            result.wrong.append(Finding("wrong", f"after SIGTERM, processes exited with {codes}"))
    return callers


async def _load(cluster: Cluster, callers: Callers, kills: Sequence[Kind], result: Result) -> None:
    """Order until every kill is over."""
    striking = True
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(callers.run(lambda: striking))
        try:
            for kind in kills:
                result.kills.append(await strike(cluster, callers, kind))
        finally:
            striking = False
