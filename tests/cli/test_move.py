"""`orchestrator migrate --from`: the same service on PostgreSQL, whatever ended the move."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.sqlite.engine import Lock
from orchestrator.database.tables import trace
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.settings import key_file
from tests.harness import databases
from tests.harness.api_caller import eventually
from tests.harness.command_line import Ran, on_terminal, run
from tests.harness.engine import drive
from tests.harness.live import order, restartable

SOURCE = "sqlite:///source.db"
MOVE = ("migrate", "--from", SOURCE)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database on PostgreSQL, which the settings name, with a secret key."""
    address = databases.url("postgresql", tmp_path, empty=True)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", address)
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", '["a long random text"]')
    yield address
    databases.drop(address)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A SQLite file with all tables."""
    databases.url("sqlite", tmp_path)
    return (tmp_path / "test.db").rename("source.db")


def refused(ran: Ran, words: str, code: int = 1) -> None:
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


async def test_the_moved_service_is_the_same_service(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its API keys work, its callback URLs are valid, and its secrets can be read."""
    async with restartable(tmp_path, {"kling": {}}, push_retries=9) as service:
        secret = service.settings.secret_keys[0].get_secret_value()
        monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", json.dumps([secret]))
        async with service.abandoned() as (runtime, api):
            made = await api.subscribe(service.subscriber.url, "job.succeeded")
            service.subscriber.secrets.append(made["secret"])
            key = (await api.call("POST", "/v1/keys", {"name": "ci", "scope": "read"})).json()
            job = await api.submit(order("kling"))
            assert await drive(runtime.assemble(Submitter)) == 1
        ran = run("migrate", "--from", service.settings.database_url, "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["tables"]["api_key"]["rows"] == 1
        service.settings = service.settings.model_copy(update={"database_url": target})
        async with service.started() as it:
            # The vendor pushes to the callback URL that the old process gave it.
            await eventually(lambda: it.api.timeline(job["id"], "push"), "a push is accepted")
            assert (await it.api.ended(job["id"]))["status"] == "succeeded"
            await it.delivered(job["id"])
            headers = {"authorization": f"Bearer {key['key']}"}
            async with httpx.AsyncClient(verify=False, trust_env=False) as client:
                answer = await client.get(f"{it.url}/v1/jobs/{job['id']}", headers=headers)
            assert answer.status_code == 200


def test_a_move_reports_each_table_and_what_to_do_next(
    source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, screen = on_terminal(monkeypatch, *MOVE)
    assert code == 0, screen
    assert "job_image" in screen
    assert "rename" in screen
    refused(run(*MOVE, "--database-url", SOURCE), "--from moves to PostgreSQL", 2)
    assert run(*MOVE, "--check").code == 2


def test_a_source_that_is_served_missing_or_old_is_refused(source: Path, target: str) -> None:
    with Lock(SOURCE):
        refused(run(*MOVE), "in use by another orchestrator process")
    refused(run("migrate", "--from", "sqlite:///none.db"), "none.db is not there", 2)
    assert not Path("none.db").exists()
    with sqlite.engines(SOURCE)[0].begin() as tx:
        tx.exec_driver_sql("UPDATE schema_version SET version_num = '0010'")
    refused(run(*MOVE), "run `orchestrator migrate` on it")


def test_the_keys_of_the_source_must_be_those_of_the_service(source: Path, target: str) -> None:
    (key,) = key_file.read_or_create(key_file.path_for(source))
    ran = run(*MOVE)
    refused(ran, "secret_keys lacks 1 of the keys in")
    assert key not in ran.err
    env = {"ORCHESTRATOR_SECRET_KEYS": json.dumps(["a new one", key])}
    assert run(*MOVE, env=env).code == 0


def test_a_target_that_is_served_is_refused(source: Path, target: str) -> None:
    engine = postgres.engine_of(target, 1)
    with engine.connect():
        refused(run(*MOVE), "is in use by orchestrator over 1 connections")
    engine.dispose()


@pytest.mark.proof
def test_a_move_that_is_killed_again_and_again_is_completed(source: Path, target: str) -> None:
    rows = 60_000
    with sqlite.engines(SOURCE)[0].begin() as tx:
        entry = {"job_id": "j", "at": EPOCH, "kind": "submit", "detail": {"outcome": "begun"}}
        tx.execute(sa.insert(trace), [entry] * rows)
    kills = copied = 0
    # Not by our own engine: the move refuses a database that orchestrator is connected to.
    with psycopg.connect(target, autocommit=True) as there:
        while copied < rows:
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *MOVE],
                env=dict(os.environ),
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            before = copied
            # Killed once it has committed a batch more, in the middle of the next.
            while copied == before and process.poll() is None:
                copied = count(there)
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate()
            assert copied > before, err
            kills += process.returncode == -signal.SIGKILL
    assert kills >= 3
    assert run(*MOVE, "--json").code == 0
    with psycopg.connect(target) as there:
        assert count(there) == rows


def count(there: psycopg.Connection[Any]) -> int:
    """Return the number of traces; 0 without the table."""
    if there.execute("SELECT to_regclass('trace')").fetchone() == (None,):
        return 0
    ((found,),) = there.execute("SELECT count(*) FROM trace").fetchall()
    return int(found)
