"""Every bench runs, reports the documented figures, loses nothing and leaves nothing behind."""

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

from orchestrator.cli.bench import ALL, BENCHES, app, ingest, reads, seed
from orchestrator.cli.bench.measurement import (
    Figure,
    Integrity,
    MeasurementFailed,
    Plan,
    Sample,
    readable,
)
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.service import child, process_usage
from orchestrator.cli.bench.statement_counter import StatementCounter
from orchestrator.cli.bench.stub_subscriber import Arrival, check_arrivals
from orchestrator.database.tables import attempt, delivery, event, job, push, subscriber, trace
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.ids import is_id
from tests.harness.command_line import isolate, run
from tests.harness.databases import server

pytestmark = pytest.mark.long

QUICK = ("--json", "--seconds", "0.1", "--rounds", "1")
SIZES: dict[str, tuple[str, ...]] = {
    "claims": ("--jobs", "2000"),
    "growth": ("--jobs", "1001", "--subscribers", "1", "--accounts", "1", "--waiting", "0"),
    "poll": ("--jobs", "200"),
    "recovery": ("--jobs", "60"),
    "reads": ("--jobs", "1500"),
}
QUANTILES = {"p50_ms", "p95_ms", "p99_ms"}


def costs(of: str) -> set[str]:
    return {f"cpu_ms_per_{of}", f"statements_per_{of}", f"commits_per_{of}", "rss_mb"}


def polled(how: str) -> set[str]:
    rates = {f"{of}_per_s_{how}" for of in ("jobs", "questions")}
    return rates | {f"{of}_per_job_{how}" for of in ("questions", "statements", "cpu_ms")}


GROWN = {"ready_s", "idle_rss_mb", "pushes_per_s", "push_p99_ms", "statements_per_push"} | {
    "deliveries_per_s", "jobs_per_s", "job_p99_ms", "rss_mb",
}  # fmt: skip
#: Names that scripts rely on.
FIGURES: dict[str, set[str]] = {
    "ingest": {"pushes_per_s", "pushes_per_s_256_connections"} | QUANTILES | costs("push"),
    "deliver": {"deliveries_per_s"} | costs("delivery"),
    "lifecycle": {"jobs_per_s"} | QUANTILES | costs("job"),
    "latency": QUANTILES
    | costs("delivery")
    | costs("job")
    | {"whole_job_p50_ms", "whole_job_p95_ms"},
    "saturation": {"accepted_per_s", "delivered_per_s"}
    | {f"accepted_to_delivered_{quantile}" for quantile in QUANTILES}
    | costs("delivery"),
    "isolation": QUANTILES,
    "poll": {"idle_percent_of_a_core"} | polled("by_1") | polled("by_20"),
    "claims": {
        f"{kind}_{quantile}_ms_{size}"
        for kind in ("jobs", "deliveries")
        for quantile in ("p50", "p99")
        for size in ("few", "many", "hot")
    },
    "reads": {f"{name}_{p}_ms" for name in reads.paths(9, "", "", EPOCH) for p in ("p50", "p99")},
    "recovery": {"all_final_s", "went_on_s", "claims_at_a_kill"},
    "growth": {f"{name}_at_{size}" for name in GROWN for size in ("smallest", "1001_jobs")},
}
LIMITS = {
    "ingest": {
        "bare Starlette handler",
        "the same on uvicorn's defaults",
        "bare commits of the same rows",
    },
    "deliver": {"bare aiohttp", "one shared httpx.AsyncClient"},
    "lifecycle": {"bare Starlette and aiohttp"},
    "latency": {"bare relay"},
    "saturation": {"bare relay"},
    "isolation": {"without the slow ones"},
    "poll": {"bare aiohttp", "one by one", "an empty database"},
    "claims": {"few rows due tomorrow"},
    "reads": {"1,000 jobs"},
    "recovery": {"without a kill"},
    "growth": {"the smallest"},
}


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run in a folder of its own, in which nothing may be left."""
    isolate(monkeypatch, tmp_path)
    yield
    assert not list(tmp_path.glob("orchestrator_bench_*"))


def measured(name: str, database: str) -> Any:
    ran = run("bench", name, *QUICK, "--database", database, *SIZES.get(name, ()))
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert (document["object"], document["rounds"]) == ("bench", 1)
    (result,) = document["results"]
    assert result["bench"] == name
    return document


@pytest.mark.proof
@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_reports_its_figures_and_limits_and_loses_nothing(
    name: str, tmp_path: Path
) -> None:
    document = measured(name, f"sqlite:///{tmp_path / 'x.db'}")
    (result,) = document["results"]
    assert document["database"] == "sqlite"
    assert set(result["figures"]) == FIGURES[name]
    assert (result["lost"], result["duplicated"]) == (0, 0)
    assert result["operations"] > 0
    limits = {limit for figure in result["figures"].values() for limit in figure["limits"]}
    assert limits == LIMITS[name]


@pytest.mark.proof
def test_benches_run_on_postgresql_and_leave_no_schema_there() -> None:
    assert measured("claims", server())["database"] == "postgresql"
    commits: list[Sample] = []
    sample = ingest.measure(Plan(server(), seconds=0.1), ingest.CONNECTIONS, commits)
    assert sample.operations > 0
    assert (sample.integrity.lost, sample.integrity.duplicated) == (0, 0)
    assert [commit.rate > 0 for commit in commits] == [True]
    with psycopg.connect(server()) as connection:
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'orchestrator_bench%'"
        )
        assert schemas.fetchall() == []


def test_the_command_knows_every_bench() -> None:
    assert {command.name for command in app.registered_commands} == {*BENCHES, ALL}


@pytest.mark.proof
def test_without_json_a_table_is_printed_and_an_unknown_size_is_refused() -> None:
    ran = run("bench", "claims", "--jobs", "1500", "--seconds", "0.1", "--rounds", "2")
    assert ran.out.startswith("claims: ")
    assert "0 lost, 0 duplicated, 0 out of order" in ran.out
    assert "RATIO (MIN-MAX)" in ran.out
    refused = run("bench", "poll", "--accounts", "3")
    assert (refused.code, refused.out) == (2, "")
    assert "poll does not take --accounts; it takes --jobs" in refused.err


def test_an_unusable_database_is_explained(tmp_path: Path) -> None:
    ran = run("bench", "claims", "--database", f"sqlite:///{tmp_path}/nowhere/x.db")
    assert (ran.code, ran.out) == (1, "")
    assert "is not there; make that folder" in ran.err


def test_ctrl_c_right_after_its_folder_is_created_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    created, mkdir = list[str](), os.mkdir

    def interrupted(path: Any, *more: Any) -> None:
        mkdir(path, *more)
        created.append(Path(path).name)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), scratch_database(Plan()):
        raise AssertionError("the block must not run")
    assert created
    assert not list(tmp_path.glob("orchestrator_bench_*"))


@pytest.mark.proof
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_bench_and_all_its_processes(how: signal.Signals, tmp_path: Path) -> None:
    """A process that outlived the bench would keep our pipe open, and we would wait for it."""
    command = [sys.executable, "-m", "orchestrator", "bench", "ingest", "--seconds", "30"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as bench:
        assert bench.stderr is not None
        assert bench.stderr.readline().startswith(b"ingest: round 1")
        bench.send_signal(how)
        _, errors = bench.communicate(timeout=60)
    assert bench.returncode == 130, errors
    assert b"nothing was left behind" in errors
    assert not list(tmp_path.glob("orchestrator_bench_*"))


def test_a_process_that_does_not_start_is_reported_with_the_end_of_its_log() -> None:
    with (
        pytest.raises(MeasurementFailed, match=r"did not start: .*No module named"),
        child("nonesuch"),
    ):
        raise AssertionError("the block must not run")


def test_a_figure_is_compared_within_each_round() -> None:
    figure = Figure("pushes_per_s", [50.0, 10.0, 10.0], {"limit": [100.0, 10.0, 50.0]})
    document = figure.document()
    assert document["value"] == 10.0
    assert document["limits"]["limit"] == {
        "value": 50.0,
        "ratio": {"min": 0.2, "median": 0.5, "max": 1.0},
    }
    assert figure.lines() == [["pushes per s", "10.0", "50.0", "limit", "0.5 (0.2-1)"]]
    numbers = (12345.6, 12.34, 0.12345, 0.0)
    assert [readable(number) for number in numbers] == ["12,346", "12.3", "0.123", "0"]


def test_arrivals_are_checked_by_event_and_by_the_order_of_their_job() -> None:
    arrivals = [
        Arrival(0.0, "a", "x", 1),
        Arrival(0.0, "c", "x", 3),
        Arrival(0.0, "b", "x", 2),
        Arrival(0.0, "a", "x", 1),
        Arrival(0.0, "d", "y", 1),
    ]
    assert check_arrivals(arrivals, 6) == Integrity(lost=2, duplicated=1, out_of_order=2)


def test_statements_and_commits_are_counted_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    with (
        contextlib.closing(StatementCounter(path)) as counting,
        contextlib.closing(StatementCounter(path)) as reading,
    ):
        engine = sa.create_engine("sqlite://")
        counting.count(engine)
        with engine.begin() as tx:
            tx.execute(sa.text("CREATE TABLE t (n)"))
            tx.execute(sa.text("INSERT INTO t VALUES (:n)"), [{"n": 1}, {"n": 2}])
        with engine.connect() as tx:
            tx.execute(sa.text("SELECT 1"))
        engine.dispose()
        assert reading.read() == (3, 1)


def test_the_usage_of_a_process_is_what_the_kernel_reports() -> None:
    cpu, rss = process_usage(os.getpid())
    assert sum(range(3_000_000)) > 0
    assert process_usage(os.getpid())[0] >= cpu
    assert rss > 10 << 20


def test_a_database_is_seeded_with_rows_in_the_form_of_the_product(tmp_path: Path) -> None:
    plan = Plan(
        f"sqlite:///{tmp_path}/x.db", jobs=30, history=300, subscribers=4, accounts=3, waiting=20
    )
    with scratch_database(plan) as database:
        with database.writing() as engine:
            seed.background(engine, plan)
        with database.transaction() as tx:
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
    # The plan's four, of which the load adds one; the owner of the history; the dead subscriber.
    assert others == {"push": 60, "attempt": 60, "trace": 60, "subscriber": 3 + 2}


_PREFIX = {"job": "job", "event": "evt", "delivery": "dlv"}
