"""API keys are found by digest, end when told to, and cannot be read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import sqlalchemy as sa

from orchestrator import keyring
from orchestrator.clock import SystemClock
from orchestrator.ids import Ids
from orchestrator.keyring import Scope
from orchestrator.store import Tx
from orchestrator.tables import api_key, metadata

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
IDS = Ids(SystemClock(), Random(1))


@pytest.fixture
def tx() -> Iterator[Tx]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def issue(tx: Tx, **values: datetime | None) -> tuple[str, str]:
    secret, row = keyring.issue(tx, IDS, name="ci", scope=Scope.WRITE, now=NOW, **({"expires_at": None} | values))
    return secret, row["id"]


def test_a_key_is_long_and_only_its_digest_is_kept(tx: Tx) -> None:
    secret, _ = issue(tx)
    assert re.fullmatch(r"orc_[A-Za-z0-9_-]{43}", secret)
    assert keyring.is_key(secret)
    (row,) = tx.execute(sa.select(api_key)).mappings()
    assert secret not in str(dict(row))
    assert secret.startswith(row["prefix"])


def test_a_key_is_found_until_it_expires_or_is_revoked(tx: Tx) -> None:
    secret, key_id = issue(tx, expires_at=NOW + timedelta(hours=1))
    found = keyring.find(tx, secret, NOW)
    assert found is not None
    assert (found["id"], found["scope"]) == (key_id, "write")
    assert keyring.find(tx, secret, NOW + timedelta(hours=1)) is None
    assert keyring.find(tx, secret[:-1] + ("A" if secret[-1] != "A" else "B"), NOW) is None
    assert keyring.revoke(tx, key_id, NOW)
    assert keyring.find(tx, secret, NOW) is None


def test_revoking_twice_keeps_the_first_time_and_a_stranger_is_told_apart(tx: Tx) -> None:
    _, key_id = issue(tx)
    assert keyring.revoke(tx, key_id, NOW)
    assert keyring.revoke(tx, key_id, NOW + timedelta(days=1))
    assert keyring.ls(tx, limit=9)[0]["revoked_at"] == NOW
    assert not keyring.revoke(tx, "key_none", NOW)


def test_keys_are_listed_newest_first(tx: Tx) -> None:
    made = [issue(tx)[1] for _ in range(3)][::-1]
    assert [row["id"] for row in keyring.ls(tx, limit=2)] == made[:2]
    assert [row["id"] for row in keyring.ls(tx, limit=2, after=made[1])] == made[2:]


def test_the_last_use_is_recorded_once_a_minute(tx: Tx) -> None:
    secret, key_id = issue(tx)
    row = keyring.find(tx, secret, NOW)
    assert row is not None
    assert keyring.is_due_a_touch(row, NOW)
    keyring.touch(tx, key_id, NOW)
    row = keyring.find(tx, secret, NOW)
    assert row is not None
    assert not keyring.is_due_a_touch(row, NOW + timedelta(seconds=59))
    assert keyring.is_due_a_touch(row, NOW + timedelta(seconds=60))


@pytest.mark.parametrize(
    ("has", "covers"), [("read", ["read"]), ("write", ["read", "write"]), ("admin", ["read", "write", "admin"])]
)
def test_a_scope_covers_the_narrower_ones(has: str, covers: list[str]) -> None:
    assert [scope for scope in Scope if Scope(has).covers(scope)] == covers
