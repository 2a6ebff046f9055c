"""What all pages have: headers, texts in each language, links behind a proxy, static files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from orchestrator.dashboard import rendering
from orchestrator.dashboard.formats import readable, size
from orchestrator.dashboard.translations import LANGUAGES, catalogue
from orchestrator.foundation.durations import span
from tests.harness.readers import dashboard

TEMPLATES = rendering.FOLDER / "templates"
_USED = re.compile(r"""\b_\(\s*'([^']+)'(?!\s*~)""")
_STARTS = re.compile(r"""\b_\(\s*'([^']+)'\s*~""")


def test_every_language_has_the_same_texts() -> None:
    keys = [set(catalogue(language).texts) for language in LANGUAGES]
    assert keys[0] == keys[1]
    folder = rendering.FOLDER / "translations"
    for language in LANGUAGES:
        text = (folder / f"{language}.json").read_text(encoding="utf-8")
        names = [name for name, _ in json.loads(text, object_pairs_hook=list)]
        assert names == sorted(set(names))
        fields = re.compile(r"\{(\w+)\}")
        for key, value in catalogue(language).texts.items():
            assert set(fields.findall(value)) == set(fields.findall(catalogue("en").texts[key]))


def test_every_text_of_a_template_is_in_the_catalogue() -> None:
    texts = catalogue("en").texts
    for path in TEMPLATES.glob("*.html"):
        template = path.read_text(encoding="utf-8")
        assert {key for key in _USED.findall(template) if key not in texts} == set(), path.name
        for start in _STARTS.findall(template):
            assert any(key.startswith(start) for key in texts), (path.name, start)


def test_nothing_in_a_template_is_inline_or_unescaped() -> None:
    for path in TEMPLATES.glob("*.html"):
        template = path.read_text(encoding="utf-8")
        assert not re.search(r"\son\w+=|\sstyle=|javascript:|\|\s*safe\b|<style", template), (
            path.name
        )
        assert not re.search(r"<script(?![^>]*\bsrc=)", template), path.name


def test_vendored_files_are_the_published_ones() -> None:
    table = (rendering.STATIC / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", table, re.MULTILINE)
    assert rows
    for name, digest in rows:
        assert hashlib.sha256((rendering.STATIC / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("header", "heading"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "登录"), ("de, en;q=0.5", "Sign in"), ("", "Sign in"),
     ("en;q=0, zh;q=0.1", "登录"), ("zh;q=x", "Sign in")],
)  # fmt: skip
async def test_the_browser_chooses_the_language(tmp_path: Path, header: str, heading: str) -> None:
    async with dashboard(tmp_path) as pages, pages.reader(None) as reader:
        page = await reader.http.get("/dashboard/sign-in", headers={"accept-language": header})
        assert f"<h1>{heading}</h1>" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["cache-control"] == "no-store"


async def test_the_reader_chooses_language_and_theme(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages, pages.reader() as reader:
        choice = {"language": "zh", "theme": "dark", "next": "/jobs?status=failed"}
        sent = await reader.http.post("/dashboard/preferences", data=choice)
        assert sent.headers["location"] == "../dashboard/jobs?status=failed"
        page = await reader.see("/jobs")
        assert 'data-theme="dark"' in page
        assert "<h1>任务</h1>" in page
        await reader.http.post("/dashboard/preferences", data={"language": "", "theme": "x"})
        page = await reader.see("/jobs")
        assert "data-theme" not in page
        assert "<h1>Jobs</h1>" in page


async def test_links_hold_behind_a_prefix(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages, pages.reader() as reader:
        for path in ("", "/jobs"):
            page = await reader.http.get(f"/dashboard{path}")
            for link in re.findall(r'(?:href|src|action)="([^"#]*)"', page.text):
                assert not link.startswith("/"), link
                joined = page.url.join(link).path
                assert joined.startswith("/dashboard"), (path, link)


async def test_static_files_are_kept_and_nothing_else_is_read(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages, pages.reader(None) as reader:
        found = await reader.http.get(f"/dashboard{rendering.asset('app.css')}")
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
        assert (await reader.http.get("/dashboard/static/0/app.css")).headers[
            "cache-control"
        ] == "no-cache"
        for name in ("README.md", "..%2fendpoint.py", "nothing.js"):
            missing = await reader.http.get(f"/dashboard/static/0/{name}")
            assert missing.status_code in (303, 404)


async def test_an_unknown_page_is_not_found(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages, pages.reader() as reader:
        for path in ("/nothing", "/jobs/job_x", "/jobs/x/y/z"):
            await reader.see(path, 404)
        assert (await reader.http.post("/dashboard/jobs")).status_code == 405
        slash = await reader.http.get("/dashboard/")
        assert slash.next_request is not None
        assert slash.next_request.url.path == "/dashboard"


ODD = ["/events/stream", "/try?job=job_0/outputs/0", "/try?job=job_0/timeline", "/jobs?q=%FF",
       "/deliveries/..", "/jobs/job_0%2Ftimeline"]  # fmt: skip


@pytest.mark.parametrize("path", ODD)
async def test_a_page_asks_for_documents_alone(tmp_path: Path, path: str) -> None:
    async with dashboard(tmp_path) as pages, pages.reader() as reader, asyncio.timeout(10):
        answer = await reader.http.get(f"/dashboard{path}")
        assert answer.status_code in (200, 303, 307, 404, 405)


async def test_a_query_that_is_no_text_is_served(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages:
        statuses: list[int] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        for path in ("/dashboard/sign-in", "/dashboard/jobs"):
            scope: dict[str, Any] = {
                "type": "http", "method": "GET", "path": path, "query_string": b"\xff=\xff",
                "headers": [], "scheme": "http", "server": ("x", 80), "client": None,
                "http_version": "1.1", "root_path": "",
            }  # fmt: skip
            await pages.app(scope, receive, send)
        assert statuses == [200, 303]


def test_a_long_document_is_shown_in_part() -> None:
    deep: Any = list(range(200_000))
    for _ in range(28):
        deep = [deep]
    assert len(readable(deep)) < 40_000
    assert readable({"a": 1}) == '{\n  "a": 1\n}'


def test_spans_and_sizes_have_units() -> None:
    assert [span(value) for value in (None, 0.34, 5.04, 65, 3600, 90_061)] == [
        "", "340 ms", "5.0 s", "1 min 5 s", "1 h", "1 d 1 h"
    ]  # fmt: skip
    assert [size(value) for value in (None, 5, 1400, 2_000_000)] == ["", "5 B", "1.4 kB", "2.0 MB"]
