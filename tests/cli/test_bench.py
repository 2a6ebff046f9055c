"""The benches: each runs, says what the documents promise, keeps the product's promises, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.cli.bench import ABOUT, crowd, history
from orchestrator.cli.bench.benches import ALL, BENCHES
from orchestrator.cli.bench.counted import Counts, count
from orchestrator.cli.bench.figures import Figure, Honest, Limit, words
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan, Spoiled
from orchestrator.cli.bench.processes import burden, child
from orchestrator.cli.bench.sink import Arrival, judged
from orchestrator.database.tables import attempt, delivery, event, job, push, subscriber, trace
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.ids import is_id
from tests.harness.command_line import isolate, run
from tests.harness.databases import server

pytestmark = pytest.mark.long

SIZES: dict[str, tuple[str, ...]] = {
    "claims": ("--jobs", "2000"),
    "fanout": ("--subscribers", "1"),
    "growth": ("--jobs", "1001", "--subscribers", "1", "--accounts", "1", "--waiting", "0"),
    "memory": ("--jobs", "40"),
    "poll": ("--jobs", "200"),
    "reads": ("--jobs", "1500"),
    "start": ("--jobs", "200"),
}
QUANTILES = {"p50_ms", "p95_ms", "p99_ms"}
KINDS = ("jobs", "deliveries")


def costs(of: str) -> set[str]:
    return {f"cpu_ms_per_{of}", f"statements_per_{of}", f"commits_per_{of}", "rss_mb"}


def asked(how: str) -> set[str]:
    rates = {f"{what}_per_s_{how}" for what in ("jobs", "questions")}
    return rates | {f"{what}_per_job_{how}" for what in ("questions", "statements", "cpu_ms")}


GROWN = {
    "pushes_per_s",
    "push_p99_ms",
    "statements_per_push",
    "deliveries_per_s",
    "jobs_per_s",
    "job_p99_ms",
}
#: What scripts may rely on.
FIGURES: dict[str, set[str]] = {
    "ingest": {"pushes_per_s", "pushes_per_s_256_connections"} | QUANTILES | costs("push"),
    "deliver": {"deliveries_per_s"} | costs("delivery"),
    "lifecycle": {"jobs_per_s"} | QUANTILES | costs("job"),
    "latency": QUANTILES | costs("delivery"),
    "isolation": QUANTILES,
    "fanout": {f"{name}_to_1" for name in {"deliveries_owed_per_s"} | QUANTILES | costs("push")},
    "poll": {"idle_percent_of_a_core"} | asked("by_1") | asked("by_20"),
    "claims": {
        f"{kind}_{p}_ms_{size}"
        for kind in KINDS
        for p in ("p50", "p99")
        for size in ("few", "many", "hot")
    },
    "reads": {f"{name}_{p}_ms" for name in crowd.paths(9, "", "", EPOCH) for p in ("p50", "p99")},
    "missed": {"median_s", "p99_s", "worst_s"},
    "memory": {"idle_rss_mb", "rss_mb_after_first_jobs", "rss_mb_after_all_jobs"},
    "start": {"ready_s"},
    "growth": {f"{name}_at_{size}" for name in GROWN for size in ("smallest", "1001_jobs")},
}
#: Measured beside what.
LIMITS = {
    "ingest": {
        "bare Starlette handler",
        "the same on uvicorn's defaults",
        "bare commits of the same rows",
    },
    "deliver": {"bare aiohttp", "one shared httpx.AsyncClient"},
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run in a folder of its own, in which nothing may be left."""
    isolate(monkeypatch, tmp_path)
    yield
    assert not list(tmp_path.glob("orchestrator_bench_*"))


def measured(folder: Path, name: str, *options: str) -> Any:
    quick = ("--json", "--seconds", "0.3", "--rounds", "1")
    ran = run(
        "bench",
        name,
        *quick,
        *(options or ("--database", f"sqlite:///{folder / 'x.db'}")),
        *SIZES.get(name, ()),
    )
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_says_what_it_promises_and_loses_nothing(name: str, tmp_path: Path) -> None:
    document = measured(tmp_path, name)
    (found,) = document["results"]
    assert (document["object"], document["database"], document["rounds"], found["bench"]) == (
        "bench",
        "sqlite",
        1,
        name,
    )
    assert set(found["figures"]) == FIGURES[name]
    assert (found["lost"], found["duplicated"]) == (0, 0)
    assert found["operations"] > 0
    beside = {limit for figure in found["figures"].values() for limit in figure["limits"]}
    assert beside >= LIMITS.get(name, set())


def test_a_bench_runs_on_postgresql_and_leaves_no_schema_there(tmp_path: Path) -> None:
    document = measured(tmp_path, "fanout", "--database", server())
    assert document["database"] == "postgresql"
    assert document["results"][0]["lost"] == 0
    with psycopg.connect(server()) as connection:
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'orchestrator_bench%'"
        )
        assert schemas.fetchall() == []


def test_the_command_knows_every_bench() -> None:
    assert set(ABOUT) == {*BENCHES, ALL}


def test_people_get_a_table_and_a_size_without_a_meaning_is_refused() -> None:
    ran = run("bench", "claims", "--jobs", "1500", "--seconds", "0.2", "--rounds", "2")
    assert ran.out.startswith("claims: ")
    assert "0 lost, 0 duplicated, 0 out of order" in ran.out
    assert "RATIO (MIN-MAX)" in ran.out
    refused = run("bench", "poll", "--accounts", "3")
    assert (refused.code, refused.out) == (2, "")
    assert "poll has no use for --accounts; it takes --jobs" in refused.err


def test_a_database_that_cannot_be_had_is_said_in_words(tmp_path: Path) -> None:
    ran = run("bench", "claims", "--database", f"sqlite:///{tmp_path}/nowhere/x.db")
    assert (ran.code, ran.out) == (1, "")
    assert "is not there; make that folder" in ran.err


def test_ctrl_c_in_the_moment_in_which_its_folder_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made, make = list[str](), os.mkdir

    def interrupted(path: Any, *more: Any) -> None:
        make(path, *more)
        made.append(Path(path).name)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), place(Plan()):
        raise AssertionError("it never came to that")
    assert made
    assert not list(tmp_path.glob("orchestrator_bench_*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_a_bench_ends_everything(how: signal.Signals, tmp_path: Path) -> None:
    """Processes too: one that outlived the bench would hold its end of our pipe, and we would wait for it."""
    command = [sys.executable, "-m", "orchestrator", "bench", "ingest", "--seconds", "30"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as bench:
        assert bench.stderr is not None
        assert bench.stderr.readline().startswith(b"ingest: round 1")
        bench.send_signal(how)
        _, said = bench.communicate(timeout=60)
    assert bench.returncode == 130, said
    assert b"nothing was left behind" in said
    assert not list(tmp_path.glob("orchestrator_bench_*"))


def test_a_process_that_does_not_start_is_said_with_its_last_words() -> None:
    with (
        pytest.raises(Spoiled, match=r"did not start: .*No module named"),
        child("orchestrator.cli.bench.nonesuch"),
    ):
        raise AssertionError("it did start")


def test_a_figure_is_compared_within_each_round() -> None:
    limit = Limit("limit", [100.0, 10.0, 50.0])
    figure = Figure("pushes_per_s", [50.0, 10.0, 10.0], [limit])
    found = figure.document()
    assert found["value"] == 10.0
    assert found["limits"]["limit"] == {
        "value": 50.0,
        "ratio": {"min": 0.2, "median": 0.5, "max": 1.0},
    }
    assert figure.lines() == [["pushes per s", "10.0", "50.0", "limit", "0.5 (0.2-1)"]]
    assert [words(number) for number in (12345.6, 12.34, 0.12345, 0.0)] == [
        "12,346",
        "12.3",
        "0.123",
        "0",
    ]


def test_what_arrived_is_judged_by_event_and_by_the_order_of_its_job() -> None:
    came = [
        Arrival(0.0, event, job, sequence)
        for event, job, sequence in [
            ("a", "x", 1),
            ("c", "x", 3),
            ("b", "x", 2),
            ("a", "x", 1),
            ("d", "y", 1),
        ]
    ]
    assert judged(came, 6) == Honest(lost=2, duplicated=1, out_of_order=2)


def test_statements_and_commits_are_counted_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    with (
        contextlib.closing(Counts.make(path)) as inside,
        contextlib.closing(Counts(path)) as outside,
    ):
        engine = sa.create_engine("sqlite://")
        count(inside, engine)
        with engine.begin() as tx:
            tx.execute(sa.text("CREATE TABLE t (n)"))
            tx.execute(sa.text("INSERT INTO t VALUES (:n)"), [{"n": 1}, {"n": 2}])
        with engine.connect() as tx:
            tx.execute(sa.text("SELECT 1"))
        engine.dispose()
        assert outside.read() == (3, 1)


def test_a_process_costs_what_the_kernel_says() -> None:
    before = burden(os.getpid())
    assert sum(range(3_000_000)) > 0
    assert burden(os.getpid()).cpu >= before.cpu
    assert before.rss > 10 << 20


def test_a_database_is_laid_down_in_the_form_of_ours(tmp_path: Path) -> None:
    plan = Plan(
        f"sqlite:///{tmp_path}/x.db", jobs=30, history=300, subscribers=4, accounts=3, waiting=20
    )
    with place(plan) as here:
        with here.writing() as engine:
            history.lay(engine, plan)
        with here.reading() as tx:
            rows = {
                table.name: tx.execute(sa.select(table)).mappings().all()
                for table in (job, event, delivery)
            }
            others = {
                table.name: tx.scalar(sa.select(sa.func.count()).select_from(table))
                for table in (push, attempt, trace, subscriber)
            }
    assert all(is_id(row["id"], prefix) for name, prefix in _PREFIX.items() for row in rows[name])
    assert {row["account"] for row in rows["job"]} == {"bench-0", "bench-1", "bench-2"}
    assert (len(rows["job"]), len(rows["event"])) == (30 + 20, 60 + 20)
    assert sum(row["due_at"] is not None for row in rows["delivery"]) == 20
    assert {json.loads(row["body"])["id"] == row["id"] for row in rows["event"]} == {True}
    # Beside the four: whose history it was, and who is dead.
    assert others == {"push": 60, "attempt": 60, "trace": 60, "subscriber": 3 + 2}


_PREFIX = {"job": "job", "event": "evt", "delivery": "dlv"}
