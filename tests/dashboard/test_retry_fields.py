"""The retry policy of a subscriber, on its page and in its form."""

from __future__ import annotations

from pathlib import Path

from orchestrator.dashboard.retry_fields import retry_texts, retry_values
from orchestrator.dashboard.translations import catalogue
from tests.api.test_support import subscribed
from tests.harness.readers import dashboard


async def test_the_form_sets_changes_and_clears_a_retry_policy(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages, pages.reader() as reader:
        made = await subscribed(pages.api, types=["job.*"])
        page = f"/subscribers/{made['id']}"
        same = {"types": "job.*", "max_in_flight": "8"}
        own = {"retry.schedule": "5s, 90", "retry.deadline": "30", "retry.final_statuses": "404"}
        english = catalogue("en")
        assert english.text("subscriber.retry.service") in await reader.see(page)
        await reader.send(f"{page}/edit", **same, **own)
        changed = await pages.api.get(f"/v1{page}")
        expected = {"schedule": ["5s", "90"], "deadline": 30, "final_statuses": [404]}
        assert changed["retry"] == expected
        shown = await reader.see(page)
        assert english.text("subscriber.retry.ends", statuses="404") in shown
        assert retry_values(retry_texts(changed)) == {"retry": expected}
        refused = await reader.send(f"{page}/edit", 422, **same, **own | {"retry.deadline": "999"})
        assert "/retry/deadline" in refused
        await reader.send(f"{page}/edit", **same)
        assert (await pages.api.get(f"/v1{page}"))["retry"] is None
