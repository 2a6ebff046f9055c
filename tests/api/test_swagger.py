"""`/docs` shows the API under any mount, without files of other hosts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import orchestrator
from orchestrator.api import routes
from tests.api.test_support import calling

STATIC = Path(orchestrator.__file__).parent / "api" / "static"
VENDORED = STATIC / "swagger-ui"
POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:", "connect-src": "'self'", "frame-ancestors": "'none'",
    "base-uri": "'none'", "form-action": "'none'",
}  # fmt: skip


def test_the_vendored_files_are_unmodified() -> None:
    published = dict(
        re.findall(
            r"^ {4}([0-9a-f]{64})  (\S+)$", (VENDORED / "README.md").read_text(), re.MULTILINE
        )
    )
    found = {path.name: path for path in VENDORED.iterdir() if path.name != "README.md"}
    assert {
        hashlib.sha256(path.read_bytes()).hexdigest(): name for name, path in found.items()
    } == published


@pytest.mark.parametrize("mount", ["", "/video", "/a/b"])
async def test_the_page_and_its_files_are_found_under_any_mount(tmp_path: Path, mount: str) -> None:
    async with calling(tmp_path) as api:
        app = Starlette(routes=[Mount(mount, routes=routes(api.runtime))])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api"
        ) as http:
            page = await http.get(f"{mount}/docs")
            linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            shown = re.findall(r'fetch\("([^"]+)"', (STATIC / "docs.js").read_text())
            assert len(linked) == 5
            assert len(shown) == 1
            for link in [*linked, *shown]:
                found = await http.get(urljoin(str(page.url), link))
                assert found.status_code == 200, link
                assert found.headers["content-type"].startswith(
                    ("text/", "image/png", "application/json")
                )


async def test_the_page_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    """By its content security policy and by its source: scripts and styles are not inline."""
    async with calling(tmp_path) as api:
        page = await api.http.get("/docs")
        policy = dict(
            part.strip().split(" ", 1)
            for part in page.headers["content-security-policy"].split(";")
        )
        assert policy == POLICY
        assert (page.headers["x-content-type-options"], page.headers["referrer-policy"]) == (
            "nosniff",
            "no-referrer",
        )
        assert "://" not in page.text
        assert not re.search(r"<style|<script>|\son\w+=", page.text)
        assert "://" not in (STATIC / "docs.js").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "..%2f..%2fapp.py",
        "../app.py",
        "%2e%2e/docs.html",
        "swagger-ui/README.md",
        "/etc/passwd",
        "docs.js/",
    ],
)
async def test_only_its_own_files_are_served(tmp_path: Path, name: str) -> None:
    async with calling(tmp_path) as api:
        response = await api.http.get(f"/docs/{name}")
        assert response.status_code in (401, 404)
        assert b"import" not in response.content


async def test_files_are_cacheable(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        whole = await api.http.get("/docs/swagger-ui-bundle.js")
        assert hashlib.sha256(whole.content).hexdigest() in (VENDORED / "README.md").read_text()
        known = {"if-none-match": whole.headers["etag"]}
        again = await api.http.get("/docs/swagger-ui-bundle.js", headers=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (
            304,
            b"",
            whole.headers["etag"],
        )
        head = await api.http.head("/docs/swagger-ui-bundle.js")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))
        assert (await api.http.get("/docs/swagger-ui.css", headers=known)).status_code == 200


async def test_a_trailing_slash_redirects_to_the_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        response = await api.http.get("/docs/")
        assert response.status_code == 307
        assert urljoin(str(response.url), response.headers["location"]) == "http://api/docs"
