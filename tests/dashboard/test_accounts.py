"""Overview and accounts: what they show, the check in words, and hostile text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api import accounts
from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.latency_store import LatencyKey, Tally
from orchestrator.jobs.learning import Learned
from orchestrator.jobs.ledger import Reschedule
from orchestrator.jobs.push_health import RECENT
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Report
from tests.api.test_support import TWO, finished_job, subscribed
from tests.harness.engine import apply_report
from tests.harness.readers import Dashboard, dashboard

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
_ = catalogue("en").text


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path, accounts=TWO) as found:
        yield found


def change(tx: Tx, **values: Any) -> None:
    """Unit of work: change the state of the account main."""
    tx.execute(sa.update(account_state).where(account_state.c.account == "main").values(**values))


async def fail(pages: Dashboard, message: str) -> str:
    """Create a job that the vendor fails with these words, and return its id."""
    job_id: str = (await pages.api.open())["id"]
    report = Report(JobState.FAILED, word="failed", message=message)
    await apply_report(pages.api, ReportEvent(job_id, report, Source.PUSH))
    return job_id


async def test_measured_and_learned_latencies_say_which_they_are(pages: Dashboard) -> None:
    await finished_job(pages.api)
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/accounts/main")
        assert _("account.latency.what", count="1") in text
        assert _("account.latency.learned") not in text, "nothing is learned yet"
        tally = Tally()
        tally.counts[20] = 3.0
        key = LatencyKey("main", "m <b>", "text2video")
        pages.api.runtime.learning.learned = Learned({key: tally})
        text = await reader.see("/accounts/main")
    assert _("account.latency.learned") in text
    assert _("account.latency.jobs", count="3") in text
    assert "<dt>m <b></dt>" in text


async def test_an_account_whose_vendor_pushes_nothing_waits_for_no_push(
    pages: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = pages.api.runtime.vendors["main"]
    monkeypatch.setattr(vendor, "callback_path", "")
    monkeypatch.setattr(vendor, "lookup", "none")
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/accounts/main")
    assert _("account.pushes.never.what") in text
    assert _("lookup.none.silent") in text
    assert _("lookup.none") not in text


async def test_an_overview_without_faults_says_so(pages: Dashboard) -> None:
    async with pages.reader(Scope.READ) as reader:
        assert _("finding.no_receivers") in await reader.see("")
        await subscribed(pages.api)
        text = await reader.see("")
    assert _("overview.fine") in text
    assert _("empty.failed") in text
    assert "dashboard/accounts/main" in text


async def test_the_overview_says_what_is_wrong_and_where_to_correct_it(pages: Dashboard) -> None:
    now = pages.api.clock.now()
    await pages.api.runtime.store.write(lambda tx: change(tx, paused_until=after(now, 60)))
    job_id = await fail(pages, HOSTILE)
    await pages.api.open()
    pages.api.clock.advance(30 * 60)
    await pages.api.runtime.store.write(lambda tx: change(tx, degraded=True, mismatched=12))
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("")
        pages.api.clock.advance(RECENT)
        later = await reader.see("")
    assert _("overview.fine") not in text
    degraded = _("finding.degraded", account="main", missed=0, pushes=0)
    assert degraded in text
    assert degraded not in later, "no job shows it any more"
    assert _("finding.queue", account="main", count=1) in text
    assert f"dashboard/jobs/{job_id}" in text


async def test_an_account_shows_its_reports_and_its_last_errors(pages: Dashboard) -> None:
    for _number in range(3):
        await finished_job(pages.api)
    job_id = await fail(pages, HOSTILE)
    async with pages.reader(Scope.READ) as reader:
        response = await reader.http.get("/dashboard/accounts/main")
        assert True
        rows = await reader.see("/accounts")
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "<img" not in response.text
    assert "{{7*7}}" in response.text
    assert job_id in response.text
    assert _("chart.ended", count=4) in response.text
    assert _("account.push_share", share="100.0%") in response.text
    assert {"main", "dream", "agentsflare", "dreamto"} <= set(rows.replace("<", ">").split(">"))


async def test_an_account_that_is_held_says_why_and_when_it_is_looked_at(
    pages: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = accounts._state
    hold = {"reason": "exhausted", "since": "2026-11-20T09:00:00Z", "message": HOSTILE,
            "next_check_at": "2026-11-20T10:05:00Z"}  # fmt: skip
    monkeypatch.setattr(accounts, "_state", lambda *given: {**shown(*given), "held": hold})
    async with pages.reader(Scope.READ) as reader:
        response = await reader.http.get("/dashboard/accounts/main")
        assert _("status.held") in await reader.see("/accounts")
        assert _("finding.held_exhausted", account="main") in await reader.see("")
    assert _("finding.held_exhausted.fix") in response.text
    assert _("account.next_check") in response.text
    assert "<script>alert" not in response.text


async def test_an_account_leads_to_its_jobs_and_says_where_to_correct_it(
    pages: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, now = pages.api, pages.api.clock.now()
    live = await api.open(state=JobState.SUBMITTED, vendor_task_id="v-1", claimed_by=1)
    marked = Reschedule(live["id"], live["lease"], live["version"], {"due_at": now})
    await api.runtime.store.write(api.runtime.ledger.mark_stuck, [marked])
    values = {"degraded": True, "mismatched": 12, "pushes_missed": 3, "last_refused_at": now}
    await api.runtime.store.write(lambda tx: change(tx, **values))
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/accounts/main")

        assert _("finding.stuck", account="main", count=1) in text
        assert f"dashboard/jobs/{live['id']}" in text
        assert "dashboard/jobs?account=main&resolved_by=poll" in text
        assert "dashboard/jobs?status=failed%2Cexpired&account=main" not in text, "none failed"
        assert "[accounts.main]" in text
        assert _("moment.refused") in text
        await api.runtime.store.write(lambda tx: change(tx, mismatched=0, last_refused_at=None))
        assert str(api.runtime.base) in await reader.see("")
        vendor = type(api.runtime.vendors["main"])
        monkeypatch.setattr(vendor, "callback_path", ())
        assert _("account.pushes.never.what") in await reader.see("/accounts/main")
        assert _("account.pushes.never") in await reader.see("/accounts")


async def test_a_list_of_no_accounts_says_what_to_do(tmp_path: Path) -> None:
    async with dashboard(tmp_path, accounts={}) as pages, pages.reader(Scope.READ) as reader:
        assert _("empty.accounts") in await reader.see("/accounts")
        assert _("finding.no_accounts") in await reader.see("")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (httpx.Response(404, json={"code": 1203, "message": "job not found"}), "accepted"),
        (httpx.Response(401, json={"code": 1000, "message": HOSTILE}), "refused"),
        (httpx.Response(404, text="no such page"), "unclear"),
        (httpx.ConnectError("refused"), "unreachable"),
    ],
)
async def test_a_check_is_shown_in_words(
    pages: Dashboard, answer: httpx.Response | Exception, verdict: str
) -> None:
    def respond(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    pages.api.network.answer = respond
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send("/accounts/main")
    assert len(pages.api.network.requests) == 1
    assert _(f"check.{verdict}") in text
    assert (_("check.unknown_task") in text) is (verdict == "accepted")


async def test_a_key_that_may_only_read_cannot_check(pages: Dashboard) -> None:
    async with pages.reader(Scope.READ) as reader:
        assert _("account.check.do") not in await reader.see("/accounts/main")
        await reader.send("/accounts/main", 403)
    assert pages.api.network.requests == []


@pytest.mark.parametrize("name", ["nope", "..", "%00", "a%2Fb", "%ff", "x" * 300])
async def test_an_account_that_is_not_there_is_a_page_too(pages: Dashboard, name: str) -> None:
    async with pages.reader(Scope.READ) as reader:
        response = await reader.http.get(f"/dashboard/accounts/{name}")
    assert response.status_code in (200, 404)
