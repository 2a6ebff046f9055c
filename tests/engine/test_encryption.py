"""What an older version stored in the clear is encrypted after an upgrade, and works meanwhile."""

from __future__ import annotations

from typing import Any

import httpx
import sqlalchemy as sa

from orchestrator.database.tables import delivery, job, subscriber
from orchestrator.engine import encryption
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.encryption import AddressEncryption
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.foundation.states import DeliveryState, JobState
from tests.harness.engine import at_vendor, drive, report_state, subscribe
from tests.harness.runtime import Harness

HOOK = "https://caller.example/hook?key=opensesame"


async def upgraded(h: Harness, jobs: int) -> None:
    """Leave the rows of an older version: addresses without hashes, callback URLs in the clear."""
    await subscribe(h, "account.*")
    keys = h.runtime.keys
    lane = await h.runtime.store.write(callback_lane, h.runtime.ids, keys, HOOK, h.clock.now())
    for number in range(jobs):
        await at_vendor(h, task=f"t-{number}", callback_url=HOOK, callback_lane=lane)
    await h.run(sa.update(subscriber).values(address_key=None))


async def stored(h: Harness) -> set[tuple[Any, ...]]:
    rows = await h.rows(job)
    return {(h.runtime.keys.open_address(row["callback_url"]), row["callback_key"]) for row in rows}


async def test_callback_urls_in_the_clear_are_encrypted_in_batches(
    h: Harness, monkeypatch: Any
) -> None:
    monkeypatch.setattr(encryption, "_BATCH", 2)
    monkeypatch.setattr(encryption, "_NEXT", encryption._NEXT.limit(2))
    await upgraded(h, 5)
    before = h.runtime.store.commits
    await h.runtime.assemble(AddressEncryption).run()
    assert h.runtime.store.commits - before >= 3
    assert "opensesame" not in str(await h.rows(job))
    assert await stored(h) == {(HOOK, h.runtime.keys.seal_address(HOOK).key)}
    assert all(row["address_key"] for row in await h.rows(subscriber))
    again = h.runtime.store.commits
    await h.runtime.assemble(AddressEncryption).run()
    assert h.runtime.store.commits == again


async def test_a_callback_url_in_the_clear_is_delivered_to_until_then(h: Harness) -> None:
    await upgraded(h, 1)
    (row,) = await h.rows(job)
    await report_state(h, row["id"], JobState.SUCCEEDED)
    h.network.answer = lambda _: httpx.Response(204)
    await drive(h.runtime.assemble(Deliverer))
    assert [str(request.url) for request in h.network.requests] == [HOOK]
    assert [row["state"] for row in await h.rows(delivery)] == [DeliveryState.DELIVERED]
