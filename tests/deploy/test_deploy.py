"""Deployment files, checked without a container engine: linted, valid, every name in them known."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.foundation.settings import Settings, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
STRINGS = {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True}
#: The parts of the compose specification in use: https://github.com/compose-spec/compose-spec/blob/main/spec.md
SERVICE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["build", "image", "ports", "volumes"],
    "properties": {
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "image": {"type": "string"},
        "env_file": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["path"],
                "properties": {"path": {"type": "string"}, "required": {"type": "boolean"}},
            },
        },
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^([\d.]+:)?\d+:\d+$"}},
        "volumes": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^[\w./-]+:/[\w./-]+(:ro)?$"},
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "init": {"type": "boolean"},
        "read_only": {"type": "boolean"},
        "tmpfs": STRINGS,
        "cap_drop": STRINGS,
        "security_opt": STRINGS,
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
    },
}
COMPOSE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "volumes"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "minProperties": 1, "additionalProperties": SERVICE},
        "volumes": {
            "type": "object",
            "additionalProperties": {"type": "object", "maxProperties": 0},
        },
    },
}
HARDENING = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "MemoryDenyWriteExecute": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProtectHome": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "StateDirectoryMode": "0700",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def unit() -> list[tuple[str, str]]:
    """Return the directives of the service, repeated ones too."""
    lines = (DEPLOY / "orchestrator.service").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return [(name, value) for name, value in pairs]


def settings_of(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """Return the settings that variables make. Raises `ConfigError` for an unknown name."""
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return load()


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_small_frozen_and_not_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    last = text.split("\nFROM ")[-1]
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert all(
        "--frozen --no-dev" in line for line in re.findall(r"^RUN uv sync.*", text, re.MULTILINE)
    )
    assert re.search(r"^USER (?!0)\d+:\d+$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert "/readyz" in last


def test_the_image_and_make_use_the_same_uv() -> None:
    make = re.search(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())
    image = re.search(r"uv==(\S+)", (DEPLOY / "Dockerfile").read_text())
    assert make
    assert image
    assert make[1] == image[1]


def test_everything_the_image_copies_passes_the_ignore_file() -> None:
    let_in = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    assert {name for line in copied for name in line.split()} == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_compose_is_valid_and_mounts_what_it_declares() -> None:
    document = compose()
    jsonschema.validate(document, COMPOSE)
    service = document["services"]["orchestrator"]
    assert {mount.split(":")[0] for mount in service["volumes"]} <= set(document["volumes"])
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_variable_of_the_containers_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = dict(re.findall(r"(ORCHESTRATOR_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
    service = compose()["services"]["orchestrator"]["environment"]
    settings = settings_of({**image, **example(), **service}, monkeypatch, tmp_path)
    assert settings.host == "0.0.0.0"
    assert str(settings.database_file) == "/data/orchestrator.db"
    assert settings.accounts["main"].vendor == "dreamto"


def test_every_variable_of_the_unit_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, value in unit():
        if name == "LoadCredential":
            (credentials / value.split(":")[0]).write_text("orc_" + "k" * 32)
    (tmp_path / "orchestrator.toml").write_text("")
    places = {
        "%d": str(credentials),
        "/etc/orchestrator/orchestrator.toml": str(tmp_path / "orchestrator.toml"),
    }
    variables = [value.split("=", 1) for name, value in unit() if name == "Environment"]
    settings = settings_of(
        {name: places.get(value, value) for name, value in variables}, monkeypatch, tmp_path
    )
    assert (
        settings.secret_keys[0].get_secret_value()
        == settings.api_keys[0].get_secret_value()
        == "orc_" + "k" * 32
    )
    assert str(settings.database_file) == "/var/lib/orchestrator/orchestrator.db"


def test_the_unit_gives_away_nothing_it_does_not_need() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names are case-sensitive
    parser.read(DEPLOY / "orchestrator.service")
    assert {name: parser["Service"].get(name) for name in HARDENING} == HARDENING


def test_systemd_finds_the_unit_tight(tmp_path: Path) -> None:
    """Uses the score of systemd, from 0 (tight) to 100; without systemd, counts the directives."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        assert (
            len([name for name, _ in unit() if name.startswith(("Protect", "Private", "Restrict"))])
            >= 15
        )
        return
    copy = tmp_path / "orchestrator.service"
    text = (DEPLOY / "orchestrator.service").read_text()
    copy.write_text(text.replace("/opt/orchestrator/bin/orchestrator", sys.executable))
    verified = subprocess.run([tool, "verify", copy], capture_output=True, text=True, check=False)
    assert "orchestrator.service" not in verified.stderr, verified.stderr
    score = subprocess.run(
        [tool, "security", "--offline=true", "--threshold=20", "--no-pager", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert score.returncode == 0, score.stdout + score.stderr
