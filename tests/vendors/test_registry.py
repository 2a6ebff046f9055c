"""The peculiarities of single dialects: settings, credentials, queries."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import jwt
import pytest

from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.errors import ConfigError, Refused, Unsupported
from orchestrator.vendors.contract import Lookup
from tests.harness.vendor_samples import NOW, SAMPLES, VENDORS, account, order, vendor

SECRET = "s" * 32
KEY_PAIR = {"access_key": "ak", "secret_key": SECRET}


@pytest.mark.parametrize(
    ("folder", "changes", "setting"),
    [
        ("dreamto", {"base_url": ""}, "accounts.main.base_url"),
        ("uniall", {"base_url": ""}, "accounts.main.base_url"),
        ("uniall", {"options": {"callback": "metadata"}}, "accounts.main.options.callback"),
        ("uniall", {"options": {"query_path": "/v1/videos/"}}, "accounts.main.options.query_path"),
        ("uniall", {"options": {"query_path": "v1/{task_id}"}}, "accounts.main.options.query_path"),
        ("cubicspaces", {"options": {"route": "compat"}}, "accounts.main.options.route"),
        ("cubicspaces", {"options": {"rout": "kling"}}, "accounts.main.options.rout"),
        ("cloudsway", {"options": {}}, "accounts.main.options.endpoint_path"),
        ("agentsflare", {"options": {"lookup": "yes"}}, "accounts.main.options.lookup"),
        ("kling", {"options": {"standard": "v2"}}, "accounts.main.options.standard"),
        ("kling", {"api_key": ""}, "accounts.main.api_key"),
        ("kling", {"api_key": "", "access_key": "ak"}, "accounts.main needs both"),
        ("kling_v2", {"api_key": "", **KEY_PAIR}, "accounts.main: the new standard"),
        ("dreamto", {"api_key": ""}, "accounts.main.api_key"),
        ("uniall", {"api_key": ""}, "accounts.main.api_key"),
        ("agentsflare", {"api_key": ""}, "accounts.main.api_key"),
        ("cubicspaces", {"api_key": ""}, "accounts.main.api_key"),
        ("cloudsway", {"api_key": ""}, "accounts.main.api_key"),
    ],
)
def test_settings_that_a_dialect_cannot_use_are_refused_by_name(
    folder: str, changes: Any, setting: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        vendor(folder, **changes)
    assert str(caught.value).startswith(setting)


def test_secrets_stay_out_of_an_accounts_repr() -> None:
    secrets = {"api_key": "key-1", "access_key": "ak-1", "secret_key": "sk-1"}
    bound = account("kling", **secrets, webhook_secrets=["whsec_c2VjcmV0"])
    assert not any(secret in repr(bound) for secret in (*secrets.values(), "whsec_c2VjcmV0"))


def test_kling_signs_with_access_key_and_secret_key() -> None:
    """HS256; issued to the access key, valid from five seconds ago for half an hour."""
    bound = vendor("kling", api_key="", access_key="ak-1", secret_key=SECRET)
    token = bound.headers()["authorization"].removeprefix("Bearer ")
    seconds = epoch_ms(NOW) // 1000
    claims = jwt.decode(
        token, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_nbf": False}
    )
    assert claims == {"iss": "ak-1", "exp": seconds + 1800, "nbf": seconds - 5}
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}


def test_batches_and_lookups_carry_one_kind_of_id() -> None:
    for folder in ("cloudsway", "kling_v2"):
        bound = vendor(folder)
        orders = [
            order("text2video", {"prompt": "a"}, vendor_task_id=str(n)) for n in range(bound.batch)
        ]
        assert dict(bound.inquiry(orders).url.params) == {"task_ids": ",".join(map(str, range(20)))}
        assert dict(bound.lookup_request(orders[0]).url.params) == {"external_task_ids": "job-1"}


@pytest.mark.parametrize("odd", ["../../jobs", "a/b", "a?b=c", "..", "ü%2F", "a#b"])
def test_a_task_id_cannot_change_the_path(odd: str) -> None:
    for folder, root in (
        ("dreamto", "/v1/jobs/"),
        ("uniall", "/v1/videos/"),
        ("kling", "/v1/videos/text2video/"),
    ):
        url = vendor(folder).inquiry([order("text2video", {"prompt": "a"}, vendor_task_id=odd)]).url
        sent = url.raw_path.decode()
        assert sent.startswith(root)
        assert sent.count("/") == root.count("/")
        assert not url.query
        assert not sent.endswith("..")


def test_cloudsway_accepts_a_base_url_that_already_names_the_endpoint() -> None:
    bound = vendor("cloudsway", base_url="https://maas.example/v1/ai/mine/", options={})
    wanted = order("text2video", {"prompt": "a"}, model="a/b c")
    assert (
        bound.submit_request(wanted).url.raw_path
        == b"/v1/ai/mine/kling/videos/text-to-video/a%2Fb%20c"
    )


def test_agentsflare_is_asked_by_external_id_only_where_an_option_allows_it() -> None:
    assert vendor("agentsflare").lookup is Lookup.NONE
    bound = vendor("agentsflare", options={"lookup": "external_id"})
    assert bound.lookup is Lookup.BY_EXTERNAL_ID
    assert (
        bound.lookup_request(order("omni_video", {"prompt": "a"})).url.path
        == "/klingai/v1/videos/omni-video/job-1"
    )


@pytest.mark.parametrize("folder", ["cloudsway", "agentsflare", "kling", "kling_v2"])
def test_a_bare_404_does_not_prove_that_kling_has_no_such_task(folder: str) -> None:
    """A wrong address or a proxy answers so; read as absence, the render would be paid twice."""
    with pytest.raises(Refused):
        vendor(folder).read_answer(httpx.Response(404, text="not found"))
    body = {"code": 1201, "message": "Task not found by id/external id"}
    assert vendor(folder).read_answer(httpx.Response(200, json=body)) == []


def test_dreamto_takes_files_and_the_others_refuse_them() -> None:
    request = vendor("dreamto").upload("video", "reference", "demo.mp4", io.BytesIO(b"\0film"))
    assert (request.method, request.url.path) == ("POST", "/v1/files/upload")
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert request.headers["authorization"] == "Bearer key-1"
    sample = json.loads((SAMPLES / "dreamto" / "upload_file_request.json").read_bytes())
    fields = [f'name="{name}"\r\n\r\n{value}' for name, value in sample["fields"].items()]
    files = [f'name="{name}"; filename="{value}"' for name, value in sample["files"].items()]
    content = request.read()
    assert all(part.encode() in content for part in (*fields, *files, "\0film"))
    with pytest.raises(Unsupported) as caught:
        vendor("kling").upload("video", "reference", "demo.mp4", io.BytesIO())
    assert caught.value.field == "account"


def test_what_a_push_proves_depends_on_the_dialect() -> None:
    """Only Kling and plain pass-throughs push our id; new-api may run an order several times."""
    assert {name for name, kind in VENDORS.items() if kind.push_id_is_ours} == {
        "kling",
        "cloudsway",
    }
    assert {name for name, kind in VENDORS.items() if kind.runs_several_tasks} == {"cubicspaces"}
