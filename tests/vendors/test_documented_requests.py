"""What a gateway gets is what its document prints, but for the differences on the vendors page."""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.states import Capability
from orchestrator.vendors.order import Order
from tests.api.test_support import Caller, calling
from tests.harness.documents import rows, sections
from tests.harness.engine import drive
from tests.harness.raw_http import LOOPBACK, Server, responding, serving
from tests.harness.vendor_samples import SAMPLES

DOCUMENTED = tomllib.loads((SAMPLES / "documented_requests.toml").read_text(encoding="utf-8"))
HEADING = "The documents' examples"
ACCEPTED = b'{"code":0,"data":{"id":"t-1","task_id":"t-1"}}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ACCEPTED), ACCEPTED)
OPTIONS = {"cloudsway": {"endpoint_path": "endpoint"}}
VENDORS = ("dreamto", "uniall", "cubicspaces", "cloudsway", "agentsflare")


@dataclass
class Gateway:
    """A service whose vendors are all one gateway, which records the bytes it gets."""

    api: Caller
    server: Server

    async def submitted(self, account: str, submission: str) -> bytes:
        """Return the request that a submission becomes."""
        await self.api.post("/v1/jobs", 202, {"account": account, **json.loads(submission)})
        assert await drive(self.api.runtime.assemble(Submitter)) == 1
        return self.server.requests[-1]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(responding(ANSWER)) as server:
        common = {"base_url": server.url(""), "api_key": "KEY"}
        accounts = {
            name: common | {"vendor": name, "options": OPTIONS.get(name, {})} for name in VENDORS
        }
        accounts["kling"] = accounts["cubicspaces"] | {"options": {"route": "kling"}}
        async with calling(tmp_path, accounts=accounts) as api:
            client = HttpClient(GuardedTransport(LOOPBACK, fresh=True))
            api.runtime.submission_client = client
            yield Gateway(api, server)
            await client.aclose()


def differences(printed: Any, sent: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Take all differences out of two JSON values; yield the path and the kind of each."""
    if isinstance(printed, dict) and isinstance(sent, dict):
        for name in [*printed, *(name for name in sent if name not in printed)]:
            inner = f"{path}.{name}".lstrip(".")
            if name in printed and name in sent:
                yield from differences(printed[name], sent[name], inner)
                if printed[name] == sent[name]:
                    continue
                yield inner, "other value"
            else:
                yield inner, "left out" if name in printed else "added"
            printed.pop(name, None)
            sent.pop(name, None)
        if list(printed) != list(sent):
            yield path, "other order"
            ordered = {name: sent[name] for name in printed}
            sent.clear()
            sent.update(ordered)


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def test_each_documented_request_is_sent_as_printed_but_for_the_listed_differences(
    gateway: Gateway,
) -> None:
    found = set()
    for one in DOCUMENTED["request"]:
        account = one.get("options", {}).get("route", one["vendor"])
        head, _, body = (await gateway.submitted(account, one["submission"])).partition(b"\r\n\r\n")
        assert head.startswith(b"POST %b HTTP/1.1\r\n" % one["path"].encode())
        assert {b"authorization: bearer key", b"content-type: application/json"} <= set(
            head.lower().split(b"\r\n")
        )
        printed, sent = json.loads(one["printed"]), json.loads(body)
        assert body == compact(sent)
        found |= {(one["vendor"], *difference) for difference in differences(printed, sent)}
        assert compact(sent) == compact(printed), one["path"]
    queries = {
        (one["vendor"], *change) for one in DOCUMENTED["query"] for change in asked(gateway, one)
    }
    listed = [
        (row[0], row[1].strip("`"), row[2]) for row in rows(sections("docs/vendors.md")[HEADING])
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == found | queries


def asked(gateway: Gateway, query: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the differences of a documented status query."""
    vendor = gateway.api.runtime.vendors[query["vendor"]]
    order = Order("j", "m", Capability.TEXT2VIDEO, {}, "j", vendor_task_id=query["task"])
    request = vendor.inquiry([order])
    path, _, parameters = query["printed"].partition("?")
    assert (request.method, request.url.path) == ("GET", path)
    printed = dict(pair.split("=") for pair in parameters.split("&") if pair)
    sent = dict(request.url.params)
    yield from differences(printed, sent)
    assert printed == sent


async def test_an_upload_has_the_documented_parts(gateway: Gateway) -> None:
    vendor = gateway.api.runtime.vendors["dreamto"]
    request = vendor.upload("video", "reference", "demo.mp4", io.BytesIO(b"clip"))
    await gateway.api.runtime.submission_client.send(request, deadline=9.0)
    head, _, form = gateway.server.requests[-1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/files/upload HTTP/1.1\r\n")
    parts = [line for line in form.split(b"\r\n") if line.startswith(b"Content-Disposition")]
    assert parts == [
        b'Content-Disposition: form-data; name="kind"',
        b'Content-Disposition: form-data; name="purpose"',
        b'Content-Disposition: form-data; name="file"; filename="demo.mp4"',
    ]
