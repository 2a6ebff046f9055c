"""Previews of submissions, and the fields that an account takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.api.auth.api_keys import Scope
from tests.api.test_support import BODY, calling

KEY = "secret-of-the-account"
ACCOUNTS = {
    "kling": {"vendor": "kling", "access_key": KEY, "secret_key": KEY[::-1] + "0123456789abcdef"},
    "main": {"vendor": "agentsflare", "api_key": KEY, "base_url": "https://u:p4ss@g.example"},
}


async def test_a_preview_is_the_request_without_credentials_and_tokens(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=ACCOUNTS) as api:
        for account in ACCOUNTS:
            given: dict[str, Any] = {"prompt": f"a cat and {KEY}", "duration": 5}
            body = BODY | {"account": account, "input": given, "callback_url": "https://me.example"}
            shown = await api.post("/v1/jobs/preview", 200, body)
            assert (shown["object"], shown["method"]) == ("vendor_request", "POST")
            assert shown["url"].endswith("/v1/videos/text2video")
            assert shown["headers"]["authorization"] == "***"
            sent = shown["body"]
            assert sent["model_name"] == body["model"]
            assert sent["external_task_id"]
            assert sent["callback_url"] == f"{api.runtime.base}/callbacks/{account}/***"
            assert all(secret not in str(shown) for secret in (KEY, "p4ss", "me.example"))
        assert await api.rows("job") == []
        assert api.network.requests == []


async def test_a_preview_refuses_what_a_submission_refuses(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        for change, pointer in (
            ({"input": {"prompt": "a cat", "size": "9x9"}}, "/input/size"),
            ({"input": {"duration": 5}}, "/input/prompt"),
            ({"account": "nobody"}, "/account"),
        ):
            (fault,) = (await api.post("/v1/jobs/preview", 422, BODY | change))["errors"]
            assert fault["pointer"] == pointer
        unknown = await api.post("/v1/jobs/preview", 200, BODY | {"model": "new"})
        assert not unknown["is_known_model"]
        reader = await api.key(Scope.READ)
        await api.call("POST", "/v1/jobs/preview", 403, BODY, headers=reader)
        await api.call("GET", "/v1/jobs/preview", 405)


async def test_an_account_lists_the_fields_that_its_dialect_carries(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        inputs = (await api.get("/v1/accounts/main"))["inputs"]
        vendor = api.runtime.vendors["main"]
        assert inputs.keys() == vendor.capabilities
        for capability, taken in inputs.items():
            assert set(taken["fields"]) == set(vendor.forms[capability].fields)
        assert inputs["image2video"]["required"] == ["image_url", "prompt"]
