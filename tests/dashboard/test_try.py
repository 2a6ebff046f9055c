"""Try: the form shows what the account takes, previews the request, and submits once."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.translations import catalogue
from tests.api.test_support import TWO
from tests.dashboard.test_job import post
from tests.harness.readers import Dashboard, dashboard

TEXTS = catalogue("en").texts
FORM = {
    "account": "main", "capability": "text2video", "model": "kling-v3", "key": "k" * 22,
    "input.prompt": "a cat", "input.duration": "5", "input.cfg_scale": "",
}  # fmt: skip


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path, accounts=TWO) as found:
        yield found


async def test_the_form_has_the_fields_of_the_account_s_dialect(pages: Dashboard) -> None:
    async with pages.reader(Scope.READ) as reader:
        for account, vendor in pages.api.runtime.vendors.items():
            for capability, mapping in vendor.forms.items():
                text = await reader.see(f"/try?account={account}&capability={capability}")
                fields = set(re.findall(r'name="input\.(\w+)"', text))
                assert fields == {*mapping.fields, "extra"}
                assert all(f'<option value="{m}">' in text for m in vendor.models[capability])
        for query in ("", "?account=none&capability=none"):
            assert 'name="model"' in await reader.see(f"/try{query}")
        assert TEXTS["try.read_only"] in text
        assert 'value="submit"' not in text
        await post(pages, reader, "/try", 403, **FORM, step="submit")
    assert await pages.api.rows("job") == []


async def test_a_preview_shows_the_request_and_sends_nothing(pages: Dashboard) -> None:
    more = {"input.extra": '{"seed": 12345678901234567890}', "metadata": '{"a": 1}'}
    async with pages.reader(Scope.WRITE) as reader:
        text = await post(pages, reader, "/try", 200, **FORM, **more, step="preview")
        assert "POST https://" in text
        assert "authorization: ***" in text
        assert '"prompt": "a cat"' in text
        assert "12345678901234567890" in text
        assert "cfg_scale" not in text.partition('id="preview"')[2]
        # What was typed is kept.
        assert f'placeholder="JSON">{more["input.extra"]}</textarea>' in text
        assert TEXTS["try.unknown_model"].partition("{")[0] not in text
        odd = await post(pages, reader, "/try", 200, **FORM | {"model": "new"}, step="preview")
        assert TEXTS["try.unknown_model"].format(model="new") in odd
    assert await pages.api.rows("job") == []
    assert pages.api.network.requests == []


FAULTS = [
    ({"input.duration": "five"}, "/input/duration", "try.fault.number"),
    ({"input.duration": "NaN"}, "/input/duration", "try.fault.number"),
    ({"input.extra": "{"}, "/input/extra", "try.fault.json"),
    ({"input.extra": "[" * 40_000}, "/input/extra", "try.fault.json"),
    ({"metadata": "nothing"}, "/metadata", "try.fault.json"),
    ({"metadata": "[1]"}, "/metadata", ""),
    ({"input.prompt": ""}, "/input/prompt", ""),
    ({"input.size": "9x9"}, "/input/size", ""),
    ({"deadline": "0"}, "/deadline", ""),
    ({"model": ""}, "/model", ""),
    ({"account": "none"}, "/account", ""),
    ({"input.<b>": "x"}, "/input/<b>", "try.fault.json"),
]


async def test_faults_stand_beside_their_fields(pages: Dashboard) -> None:
    async with pages.reader(Scope.WRITE) as reader:
        for step, (change, pointer, key) in itertools.product(("preview", "submit"), FAULTS):
            text = await post(pages, reader, "/try", 422, **FORM | change, step=step)
            assert TEXTS["try.refused"] in text
            assert f"<code>{pointer}</code>" in text
            name, said = pointer.rpartition("/")[2], TEXTS.get(key, "")
            assert said in text
            assert f'-fault">{said}' in text or f'name="input.{name}"' not in text
        too_large = FORM | {"input.prompt": "a" * (300 << 10)}
        assert "256 KiB" in await post(pages, reader, "/try", 413, **too_large)
    assert await pages.api.rows("job") == []


async def test_a_form_makes_one_job_and_leads_to_it(pages: Dashboard) -> None:
    form = {**FORM, "input.generate_audio": "false", "metadata": '{"order": "991"}',
            "external_task_id": "order-1", "deadline": "3600"}  # fmt: skip
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.see("/try?account=main")
        keys = re.findall(r'name="key" value="([\w-]{22})"', text)
        assert keys
        form["key"] = keys[0]
        first = await post(pages, reader, "/try", 303, **form, step="submit")
        assert await post(pages, reader, "/try", 303, **form, step="submit") == first
        (row,) = await pages.api.rows("job")
        assert first == f"../dashboard/jobs/{row['id']}?notice=try.submitted"
        assert row["input"] == {"prompt": "a cat", "duration": 5, "generate_audio": False}
        assert row["external_task_id"] == "order-1"
        assert row["metadata"] == {"order": "991"}
        # The same form with other words is no second job.
        changed = await post(
            pages, reader, "/try", 422, **form | {"input.prompt": "a dog"}, step="submit"
        )
        assert row["id"] in changed
        hostile = await post(pages, reader, "/try", 303, **form | {"key": "\u4e2d\r\nx: y",
                             "external_task_id": ""}, step="submit")  # fmt: skip
        assert row["id"] not in hostile


async def test_a_job_is_the_template_of_another(pages: Dashboard) -> None:
    given = {"prompt": 'a "cat"', "duration": 5, "generate_audio": True, "size": "9x9",
             "extra": {"seed": 1}}  # fmt: skip
    job = await pages.api.open(input=given, model="m-1", metadata={"order": "991"})
    async with pages.reader(Scope.WRITE) as reader:
        where = f"/try?job={job['id']}"
        assert f'href="../../dashboard{where}"' in await reader.see(f"/jobs/{job['id']}")
        raw = (await reader.http.get(f"/dashboard{where}")).text
        text = html.unescape(raw)
        assert html.escape(str(given["prompt"])) not in text
        assert 'value="m-1"' in text
        assert 'name="input.duration" value="5"' in text
        assert '<option value="true" selected>' in text
        assert '"seed": 1' in text
        assert '"order": "991"' in text
        assert TEXTS["try.left_out"].format(names="size") in text
        await reader.see("/try?job=job_x", 404)


async def test_without_an_account_the_page_says_what_to_do(tmp_path: Path) -> None:
    async with dashboard(tmp_path, accounts={}) as empty, empty.reader() as reader:
        assert TEXTS["empty.accounts.try"] in await reader.see("/try")
