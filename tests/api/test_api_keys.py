"""API keys are found by digest, can be revoked, and cannot be read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from orchestrator.api.auth import api_keys
from orchestrator.api.auth.api_keys import Scope
from orchestrator.cli import local_keys
from orchestrator.database.store import Tx
from orchestrator.database.tables import api_key, metadata
from orchestrator.database.tables.rows import ApiKeyRow
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.ids import Ids
from tests.api.test_support import calling, in_doubt
from tests.harness.runtime import Harness

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
IDS = Ids(SystemClock(), Random(1))


@pytest.fixture
def tx() -> Iterator[Tx]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def new(expires_at: datetime | None = None) -> tuple[ApiKeyRow, str]:
    return api_keys.new(
        IDS, name="ci", scope=Scope.WRITE, now=NOW, expires_at=expires_at, rate_limit=7
    )


def issue(tx: Tx, expires_at: datetime | None = None) -> tuple[str, str]:
    row, secret = new(expires_at)
    api_keys.add(tx, row)
    return secret, row["id"]


def test_a_key_is_long_and_only_its_digest_is_stored(tx: Tx) -> None:
    secret, _ = issue(tx)
    assert re.fullmatch(r"orc_[A-Za-z0-9_-]{43}", secret)
    assert api_keys.is_key(secret)
    (row,) = tx.execute(sa.select(api_key)).mappings()
    assert secret not in str(dict(row))
    assert secret.startswith(row["prefix"])


async def test_a_unit_of_work_run_twice_creates_one_key_and_does_not_revive_it(h: Harness) -> None:
    row, _ = new()
    await h.runtime.store.write(api_keys.add, row)
    await h.runtime.store.write(api_keys.revoke, row["id"], NOW)
    await h.runtime.store.write(api_keys.add, row)
    (kept,) = await h.rows(api_key)
    assert kept == row | {"revoked_at": NOW}


@pytest.mark.usefixtures("everywhere")
async def test_a_key_whose_commit_is_in_doubt_is_the_one_that_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        in_doubt(monkeypatch)
        made = await api.post("/v1/keys", 201, {"name": "ci", "scope": "read"})
        assert [row["id"] for row in await api.rows(api_key)] == [made["id"]]
        await api.get("/v1/jobs", headers={"authorization": f"Bearer {made['key']}"})


def test_a_local_key_whose_commit_is_in_doubt_is_the_one_that_was_shown(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_doubt(monkeypatch)
    made = local_keys.create(
        database, SystemClock(), name="first", scope="admin", expires_at=None, rate_limit=7
    )
    (kept,) = local_keys.page(database, limit=9, after=None).data
    assert kept.model_dump() == made.model_dump(exclude={"key"})
    assert made.key.startswith(kept.prefix)


def test_a_key_is_found_until_it_expires_or_is_revoked(tx: Tx) -> None:
    secret, key_id = issue(tx, expires_at=NOW + timedelta(hours=1))
    found = api_keys.find(tx, secret, NOW)
    assert found is not None
    assert (found["id"], found["scope"]) == (key_id, "write")
    assert api_keys.find(tx, secret, NOW + timedelta(hours=1)) is None
    assert api_keys.find(tx, secret[:-1] + ("A" if secret[-1] != "A" else "B"), NOW) is None
    assert api_keys.revoke(tx, key_id, NOW)
    assert api_keys.find(tx, secret, NOW) is None


def test_revoking_twice_keeps_the_first_time_and_an_unknown_key_is_reported(tx: Tx) -> None:
    _, key_id = issue(tx)
    assert api_keys.revoke(tx, key_id, NOW)
    assert api_keys.revoke(tx, key_id, NOW + timedelta(days=1))
    assert api_keys.ls(tx, limit=9)[0]["revoked_at"] == NOW
    assert not api_keys.revoke(tx, "key_none", NOW)


def test_keys_are_listed_newest_first(tx: Tx) -> None:
    made = [issue(tx)[1] for _ in range(3)][::-1]
    assert [row["id"] for row in api_keys.ls(tx, limit=2)] == made[:2]
    assert [row["id"] for row in api_keys.ls(tx, limit=2, after=made[1])] == made[2:]


def test_the_last_use_is_recorded_once_a_minute(tx: Tx) -> None:
    secret, key_id = issue(tx)
    row = api_keys.find(tx, secret, NOW)
    assert row is not None
    assert api_keys.is_touch_due(row, NOW)
    api_keys.touch(tx, key_id, NOW)
    row = api_keys.find(tx, secret, NOW)
    assert row is not None
    assert not api_keys.is_touch_due(row, NOW + timedelta(seconds=59))
    assert api_keys.is_touch_due(row, NOW + timedelta(seconds=60))


@pytest.mark.parametrize(
    ("has", "covers"),
    [("read", ["read"]), ("write", ["read", "write"]), ("admin", ["read", "write", "admin"])],
)
def test_a_scope_covers_the_narrower_ones(has: str, covers: list[str]) -> None:
    assert [scope for scope in Scope if Scope(has).covers(scope)] == covers
