"""The pages of deliveries: dead letters first, what an answer means, resends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.delivery_faults import fault_of
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.tables import attempt, delivery
from orchestrator.schemas.deliveries import delivery_json
from tests.api.test_support import Caller, finished_job, subscribed
from tests.harness.readers import Dashboard, dashboard

HOSTILE = "<script>alert(1)</script>"


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path) as found:
        yield found


async def owed(api: Caller, **values: Any) -> dict[str, Any]:
    """Return the delivery of a finished job, with columns changed."""
    await finished_job(api)
    found: dict[str, Any] = (await api.get("/v1/deliveries?limit=1"))["data"][0]
    if values:
        changed = sa.update(delivery).where(delivery.c.id == found["id"])
        await api.run(changed.values(due_at=None, **values))
    return found


async def test_dead_letters_stand_before_all_others(pages: Dashboard) -> None:
    await subscribed(pages.api)
    dead = await owed(pages.api, state="dead", last_error="status_404")
    newer = await owed(pages.api)
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/deliveries")
        first, _, rest = text.partition('id="dead-')[2].partition('id="all-')
        assert dead["id"] in first
        assert newer["id"] not in first
        assert newer["id"] in rest
        assert dead["id"] in rest.partition('id="all-')[2]
        assert "status_404" in first


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("status=dead", {"dead"}),
        ("status=pending", {"pending"}),
        ("status=dead,pending", {"dead", "pending"}),
        ("status=&subscriber=&event=", {"dead", "pending"}),
        ("status=held", set()),
    ],
)
async def test_the_filters_are_those_of_the_api(
    pages: Dashboard, query: str, shown: set[str]
) -> None:
    await subscribed(pages.api)
    ids = {
        "dead": (await owed(pages.api, state="dead"))["id"],
        "pending": (await owed(pages.api))["id"],
    }
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/deliveries?{query}")
        assert {name for name, found in ids.items() if f'id="all-{found}"' in text} == shown
        if not shown:
            assert catalogue("en").text("empty.deliveries") in text


async def test_a_list_goes_on_with_its_filter(pages: Dashboard) -> None:
    made = await subscribed(pages.api)
    for _ in range(51):
        await pages.api.post(f"/v1/subscribers/{made['id']}/test", 202)
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/deliveries?subscriber={made['id']}")
        assert f"deliveries?subscriber={made['id']}&after=dlv_" in text
        await reader.see("/deliveries?subscriber=elsewhere", 422)


async def test_a_delivery_has_its_body_its_attempts_and_how_its_signature_is_checked(
    pages: Dashboard,
) -> None:
    made = await subscribed(pages.api, url="https://my.app/hook?token=hunter2")
    found = await owed(pages.api, state="dead", last_error="status_500", tries=1)
    tried = {
        "delivery_id": found["id"], "n": 1, "at": pages.api.clock.now(), "status": 500, "ms": 1234,
        "error": "status_500", "response": HOSTILE,
    }  # fmt: skip
    await pages.api.run(sa.insert(attempt).values(**tried))
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/deliveries/{found['id']}")
        for expected in (
            '"type": "job.succeeded"', f"webhook-id: {found['event']}", "1.2 s",
            "https://my.app/hook", f"/subscribers/{made['id']}", f"/jobs/{found['job']}",
            catalogue("en").text("fault.broken"),
        ):  # fmt: skip
            assert expected in text
        raw = (await reader.http.get(f"/dashboard/deliveries/{found['id']}")).text
        assert HOSTILE not in raw
        assert "hunter2" not in raw
        assert '"source"' not in text


async def test_the_request_is_shown_as_the_api_masks_it(
    pages: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribed(pages.api)
    found = await owed(pages.api)
    request = {
        "method": "POST", "url": "https://my.app/hook", "body": f'{{"a":"{HOSTILE}"}}',
        "headers": {"x-theirs": "***", "webhook-signature": "***"}, "truncated": True,
    }  # fmt: skip
    monkeypatch.setattr(
        "orchestrator.api.deliveries.delivery_json",
        lambda *given: delivery_json(*given[:3]) | {"request": request},
    )
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(f"/deliveries/{found['id']}")
        assert "POST https://my.app/hook\nx-theirs: ***\nwebhook-signature: ***\n" in text
        assert catalogue("en").text("delivery.truncated") in text
        raw = (await reader.http.get(f"/dashboard/deliveries/{found['id']}")).text
        assert HOSTILE not in raw


async def test_a_delivery_of_a_deleted_subscriber_is_shown_and_not_resent(pages: Dashboard) -> None:
    made = await subscribed(pages.api)
    found = await owed(pages.api)
    await pages.api.call("DELETE", f"/v1/subscribers/{made['id']}", 204)
    async with pages.reader() as reader:
        text = await reader.see(f"/deliveries/{found['id']}")
        assert catalogue("en").text("fault.deleted") in text
        assert "/resend" not in text
        await reader.send(f"/deliveries/{found['id']}/resend", 409)
        await reader.see("/deliveries/dlv_0", 404)


async def test_a_resend_makes_one_attempt_due(pages: Dashboard) -> None:
    await subscribed(pages.api)
    found = await owed(pages.api, state="dead")
    path = f"/deliveries/{found['id']}"
    async with pages.reader(Scope.READ) as reader:
        assert "/resend" not in await reader.see(path)
        await reader.send(f"{path}/resend", 403)
        assert (await pages.api.get(f"/v1{path}"))["status"] == "dead"
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send(f"{path}/resend")
        assert catalogue("en").text("notice.delivery.resend.done") in text
        assert (await pages.api.get(f"/v1{path}"))["status"] == "pending"
        assert "data-moving" in text


ERRORS = [
    "timeout", "redirect_not_followed", "blocked_address", "secret_unreadable", "cut_off",
    "subscriber_deleted", "final_status_404", "status_301", "status_400", "status_401",
    "status_404", "status_410", "status_429", "status_503", "dns_error", "certificate_expired",
    "tls_error", HOSTILE,
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_an_attempt_has_a_text(error: str) -> None:
    assert catalogue("en").has(fault_of(error))


def test_no_error_has_none() -> None:
    assert fault_of(None) == ""
