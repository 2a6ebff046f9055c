"""Encryption of what older versions stored in the clear: callback URLs of jobs.

A schema migration cannot do it: it has no keys, and would lock the table of jobs. Here each batch
is a transaction of a few milliseconds, and every step may be repeated or interrupted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import job, subscriber
from orchestrator.foundation.addresses import canonical
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.signing.secret_keys import Keys, is_clear

log = structlog.get_logger()

#: Jobs that are looked at together, and seconds between two batches.
_BATCH = 200
_REST = 0.02
#: Stored secrets of each kind that a check of keys tries.
_SAMPLE = 20


@dataclass(kw_only=True)
class AddressEncryption:
    """Encrypts the callback URLs of existing jobs once, after an upgrade."""

    store: Store
    keys: Keys
    clock: Clock

    async def run(self) -> None:
        """Encrypt what is in the clear. Raises `Unavailable`; the next start continues."""
        waiting = await self.store.read(pending)
        place, changed = "", 0
        while waiting:
            found = await self.store.read(next_jobs, place)
            changed += await self.store.write(encrypt_jobs, self.keys, found)
            if len(found) < _BATCH:
                await self.store.write(finish, self.keys, waiting)
                break
            place = found[-1][0]
            await self.clock.sleep(_REST)
        if changed:
            log.info("callback URLs of older jobs are encrypted", jobs=changed)


def encrypt_all(engine: sa.Engine, keys: Keys) -> int:
    """Encrypt what is in the clear, without a service; return the number of jobs."""
    changed = 0
    with engine.connect() as reading:
        waiting = pending(reading)
    for found in _batches(engine) if waiting else ():
        with engine.begin() as tx:
            changed += encrypt_jobs(tx, keys, found)
    if waiting:
        with engine.begin() as tx:
            finish(tx, keys, waiting)
    return changed


def _batches(engine: sa.Engine) -> Iterator[list[tuple[str, str | None]]]:
    place: str | None = ""
    while place is not None:
        with engine.connect() as reading:
            found = next_jobs(reading, place)
        yield found
        place = found[-1][0] if len(found) == _BATCH else None


def pending(tx: Tx) -> list[tuple[str, str, str | None]]:
    """Return (id, address, origin) of subscribers and hosts that an older version wrote.

    While such a host is there, its jobs may have callback URLs in the clear.
    """
    old = sa.select(subscriber.c.id, subscriber.c.address, subscriber.c.callback_origin)
    return [tuple(row) for row in tx.execute(old.where(subscriber.c.address_key.is_(None)))]


def check_keys(tx: Tx, keys: Keys) -> None:
    """Raise `ConfigError` if there are stored secrets and the keys read none of the newest."""
    addresses = sa.select(subscriber.c.address).order_by(subscriber.c.created_at.desc())
    urls = sa.select(job.c.callback_url).where(job.c.callback_url.is_not(None))
    newest = [addresses.limit(_SAMPLE), urls.order_by(job.c.id.desc()).limit(_SAMPLE)]
    stored = [text for query in newest for text in tx.scalars(query) if not is_clear(text)]
    for text in stored:
        with contextlib.suppress(ConfigError):
            keys.decrypt(text)
            return
    if stored:
        raise ConfigError(
            "the stored secrets were encrypted with other secret_keys; give those of their service"
        )


def next_jobs(tx: Tx, place: str) -> list[tuple[str, str | None]]:
    """Return (id, callback URL) of the next jobs after an id."""
    return [tuple(row) for row in tx.execute(_NEXT, {"place": place})]


def encrypt_jobs(tx: Tx, keys: Keys, found: Sequence[tuple[str, str | None]]) -> int:
    """Unit of work: encrypt the callback URLs that are in the clear; return their number."""
    clear = [(job_id, url) for job_id, url in found if url is not None and is_clear(url)]
    if clear and tx.dialect.name == "sqlite":
        # The old text must not stay in free space of the file.
        tx.execute(sa.text("PRAGMA secure_delete = ON"))
    for job_id, url in clear:
        sealed = keys.seal_address(url)
        values: Mapping[str, Any] = {"callback_url": sealed.encrypted, "callback_key": sealed.key}
        mine = sa.and_(job.c.id == job_id, job.c.callback_url == url)
        tx.execute(sa.update(job).where(mine).values(**values))
    return len(clear)


def finish(tx: Tx, keys: Keys, waiting: Sequence[tuple[str, str, str | None]]) -> None:
    """Unit of work: give subscribers and hosts the keyed hashes of their addresses."""
    for row_id, address, origin in waiting:
        try:
            key = keys.hashes(canonical(origin or keys.decrypt(address)))[0]
        except ConfigError:
            # Its key was removed from secret_keys: such an address is that of no new subscriber.
            key = ""
        mine = sa.update(subscriber).where(subscriber.c.id == row_id)
        tx.execute(mine.values(address_key=key))


_NEXT = (
    sa.select(job.c.id, job.c.callback_url)
    .where(job.c.id > sa.bindparam("place"))
    .order_by(job.c.id)
    .limit(_BATCH)
)
