"""The files of the project agree with each other: workflows, make targets, versions, documents."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import __version__
from tests.harness.documents import Page

ROOT = Path(__file__).parents[2]
PROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLASSIFIER = "Programming Language :: Python :: "
VERSIONS = [
    found.removeprefix(CLASSIFIER)
    for found in PROJECT["classifiers"]
    if re.fullmatch(re.escape(CLASSIFIER) + r"3\.\d+", found)
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
DOCUMENTS = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
#: Files that tell a reader or a machine to run `make`.
CALLERS = [
    *WORKFLOWS,
    *FORMS,
    *DOCUMENTS,
    ROOT / "README.md",
    ROOT / ".ci" / "run",
    ROOT / ".pre-commit-config.yaml",
    ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md",
]
MAKE = (ROOT / "Makefile").read_text()


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a workflow."""
    for job in read(path)["jobs"].values():
        yield from job.get("steps", [])


@pytest.mark.parametrize("path", CALLERS, ids=named)
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKE, re.MULTILINE))
    called = re.findall(r"(?:`|run: |entry: |^)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    assert set(called) <= targets


def test_every_target_is_phony() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKE, re.MULTILINE))
    found = re.search(r"^\.PHONY: (.+)$", MAKE, re.MULTILINE)
    assert found
    assert set(found[1].split()) == targets


def test_the_same_versions_of_python_are_declared_everywhere() -> None:
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == VERSIONS
    others = {
        step["with"]["python-version"]
        for path in WORKFLOWS
        for step in steps(path)
        if str(step.get("uses", "")).startswith("actions/setup-python@")
    }
    assert others - {"${{ matrix.python }}"} <= set(VERSIONS)
    assert re.findall(r"python(3\.\d+) ", MAKE) == VERSIONS
    images = re.findall(r"^FROM python:(3\.\d+)-", dockerfile(), re.MULTILINE)
    assert set(images) == {VERSIONS[0]}


def dockerfile() -> str:
    return (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_pins_its_actions_and_asks_for_few_permissions(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 60
        needs = job.get("needs", [])
        assert ({needs} if isinstance(needs, str) else set(needs)) <= set(workflow["jobs"])
    for step in steps(path):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1"))


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=named)
def test_an_issue_form_has_what_github_requires(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    assert {field["type"] for field in form["body"]} <= {"checkboxes", "input", "textarea"}
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["attributes"]["label"] for field in form["body"])


@pytest.mark.parametrize(
    "path",
    [".github/dependabot.yml", ".github/ISSUE_TEMPLATE/config.yml", ".pre-commit-config.yaml"],
)
def test_the_other_yaml_parses(path: str) -> None:
    assert isinstance(read(ROOT / path), dict)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_a_document_links_and_names_what_exists(path: Path) -> None:
    page = Page(path)
    for link in page.links():
        if not link.startswith("https://"):
            target, _, fragment = link.partition("#")
            found = (path.parent / target).resolve()
            assert found.exists(), link
            assert not fragment or fragment in Page(found).anchors(), link
    if path.name == "CONTRIBUTING.md":
        for name in re.findall(r"`((?:orchestrator|tests|docs|\.github)/[\w./-]+)`", page.text):
            assert (ROOT / name).exists() or "NNNN" in name, name


def test_the_changelog_describes_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(
        rf"^## \[{re.escape(__version__)}\] - (Unreleased|\d{{4}}-\d\d-\d\d)$", text, re.M
    )
    newest = max((ROOT / "orchestrator/database/migrations/versions").glob("0*.py")).name[:4]
    assert newest in text, "the changelog names the newest migration"


def test_every_address_of_the_project_is_the_same() -> None:
    home = PROJECT["urls"]["Homepage"]
    assert all(url.startswith(home) for url in PROJECT["urls"].values())
    texts = [path.read_text() for path in (*DOCUMENTS, *FORMS)]
    for url in re.findall(r"https://github\.com/\S+?(?=[)\s])", "\n".join(texts)):
        assert url.startswith(home), url


def test_the_license_is_the_one_of_the_metadata() -> None:
    license_text = (ROOT / "LICENSE").read_text()
    assert license_text.startswith(f"{PROJECT['license']} License\n")
    assert PROJECT["authors"][0]["name"] in license_text
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
