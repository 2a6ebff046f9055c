"""The page that says why an event does not come, and the fields of a filter in a form."""

from __future__ import annotations

from pathlib import Path

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.filter_fields import filter_texts, filter_values
from orchestrator.dashboard.translations import catalogue
from tests.api.test_support import finished_job, subscribed
from tests.harness.readers import dashboard

WANTED = {"data": {"account": "<b>other</b>"}}


async def test_a_reader_sees_why_an_event_does_not_come(tmp_path: Path) -> None:
    english = catalogue("en")
    async with dashboard(tmp_path) as pages:
        made = await subscribed(pages.api, types=["job.*"], filter=WANTED)
        await finished_job(pages.api)
        (event, *_) = (await pages.api.get("/v1/events"))["data"]
        path = f"/subscribers/{made['id']}/explain"
        async with pages.reader(Scope.READ) as reader:
            shown = await reader.see(f"/subscribers/{made['id']}")
            assert english.text("explain.title") in shown
            raw = (await reader.http.get(f"/dashboard{path}?event={event['id']}")).text
            assert english.text("explain.no") in raw
            assert "/data/account" in raw
            assert "<b>other" not in raw
            for fields, status, text in (
                ({"body": '{"type": "account.paused"}'}, 200, english.text("explain.no")),
                ({"body": "{"}, 422, "/body"),
                ({"event": "evt_1"}, 422, "/event"),
                ({"event": "evt_00000000000000000000000000"}, 404, "event"),
            ):
                assert text in await reader.send(path, status, **fields)


def test_a_filter_is_the_same_after_a_form() -> None:
    for given in ({"filter": WANTED, "ordered": True}, {"filter": None, "ordered": False}):
        assert filter_values(filter_texts(given)) == given
    assert filter_values({"filter": "{"}) == {"filter": "{", "ordered": False}


async def test_the_form_sets_changes_and_clears_a_filter(tmp_path: Path) -> None:
    text = '{"data": {"account": "<b>other</b>"}}'
    async with dashboard(tmp_path) as pages, pages.reader() as reader:
        made = await subscribed(pages.api, types=["job.*"])
        form = f"/subscribers/{made['id']}/edit"
        same = {"types": "job.*", "max_in_flight": "8"}
        await reader.send(form, **same, filter=text, ordered="yes")
        changed = await pages.api.get(f"/v1/subscribers/{made['id']}")
        assert (changed["filter"], changed["ordered"]) == (WANTED, True)
        assert '"<b>other</b>"' in await reader.see(form)
        refused = await reader.send(form, 422, **same, filter='{"data": {"$x": 1}}')
        assert "/filter/data/$x" in refused
        await reader.send(form, 422, **same, filter="{")
        await reader.send(form, **same)
        cleared = await pages.api.get(f"/v1/subscribers/{made['id']}")
        assert (cleared["filter"], cleared["ordered"]) == (None, False)
