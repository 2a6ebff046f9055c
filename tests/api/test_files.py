"""Uploads are forwarded; malformed forms and vendor errors are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_support import TWO, Caller, calling

FORM = {"kind": "video", "purpose": "reference", "account": "dream"}


async def upload(
    api: Caller, status: int, *, data: Any = FORM, name: str = "demo.mp4", **more: Any
) -> httpx.Response:
    given: dict[str, Any] = {"data": data, "files": {"file": (name, b"bytes")}} | more
    return await api.call("POST", "/v1/files/upload", status, **given)


@pytest.mark.parametrize("name", ["demo.mp4", "../../etc/demo.mp4", "C:\\x\\demo.mp4"])
async def test_a_file_reaches_the_vendor_and_its_response_the_caller(
    tmp_path: Path, name: str
) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        api.network.answer = lambda _: httpx.Response(201, json={"id": "file_1"})
        assert (await upload(api, 201, name=name)).json() == {"id": "file_1"}
        (request,) = api.network.requests
        assert str(request.url) == "https://d.example/v1/files/upload"
        assert request.headers["authorization"] == "Bearer k"
        for part in (
            b'name="kind"\r\n\r\nvideo',
            b'name="purpose"\r\n\r\nreference',
            b'filename="demo.mp4"',
            b"bytes",
        ):
            assert part in request.content


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(500), httpx.Response(401, json={"x": 1}), httpx.Response(200, text="ok")],
)
async def test_a_vendor_that_fails_is_a_502(tmp_path: Path, answer: httpx.Response) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        api.network.answer = lambda _: answer
        refused = (await upload(api, 502)).json()
        assert (refused["code"], refused["vendor_status"]) == (
            "vendor_error",
            str(answer.status_code),
        )


async def test_a_vendor_that_cannot_be_reached_is_a_502(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:

        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        api.network.answer = refuse
        assert (await upload(api, 502)).json()["code"] == "vendor_error"


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({**FORM, "account": "main"}, "/account"),
        ({**FORM, "account": "nobody"}, "/account"),
        ({"kind": "video", "purpose": "reference"}, "/account"),
        ({"kind": "video", "account": "dream"}, "/purpose"),
        ({**FORM, "kind": ["a", "b"]}, "/kind"),
        ({**FORM, "kind": "a b"}, "/kind"),
        ({**FORM, "colour": "red"}, "/colour"),
        ({**FORM, "file": "text"}, "/file"),
    ],
)
async def test_a_wrong_field_of_a_form_is_pointed_at(
    tmp_path: Path, data: Any, pointer: str
) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        refused = (await upload(api, 422, data=data)).json()
        assert pointer in [fault["pointer"] for fault in refused["errors"]]
        assert api.network.requests == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 400),
        (b"junk", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 422),
        (b"--x\r\n: y\r\n\r\nz\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n\r\nz\r\n--x--\r\n", "multipart/form-data; boundary=x; charset=klingon", 400),
    ],
)
async def test_a_body_that_is_not_a_form_is_refused(
    tmp_path: Path, content: bytes, kind: str, status: int
) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        await api.call(
            "POST", "/v1/files/upload", status, content=content, headers={"content-type": kind}
        )


async def test_a_file_that_is_too_large_is_refused_while_it_streams(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        large = {"file": ("big.mp4", b"x" * (api.runtime.settings.upload_bytes + 2**17))}
        await upload(api, 413, files=large)
        assert api.network.requests == []
