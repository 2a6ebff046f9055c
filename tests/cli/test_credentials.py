"""A credential goes only to the server that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.access import access_of
from orchestrator.cli.command import Options
from orchestrator.foundation.settings import Settings
from tests.harness.command_line import KEY, Fake, page, run
from tests.harness.runtime import ManualClock


def authorization(fake: Fake, *words: str) -> str:
    fake.script("GET /v1/accounts", (200, page()))
    assert run(*words, "accounts", "ls").code == 0
    return fake.asked[-1][1].get("authorization", "")


def test_the_nearest_credential_wins(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv("ORCHESTRATOR_PORT", port)
    assert authorization(fake) == ""
    Path("orchestrator.db.keys").write_text("a secret key\n")
    assert authorization(fake).startswith("Bearer orc_pass.")
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
    assert authorization(fake) == f"Bearer {KEY}"
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY + "1")
    assert authorization(fake) == f"Bearer {KEY}1"
    assert authorization(fake, "--api-key", KEY + "2") == f"Bearer {KEY}2"


def test_credentials_of_settings_go_only_to_the_server_of_the_same_settings(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another port is another process, perhaps of another user; 0.0.0.0 is not loopback."""
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
    assert authorization(fake, "--server", fake.url) == ""
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv("ORCHESTRATOR_PORT", port)
    for url in (fake.url, f"http://localhost:{port}"):
        assert authorization(fake, "--server", url) == f"Bearer {KEY}"
    assert authorization(fake, "--server", f"http://0.0.0.0:{port}") == ""
    monkeypatch.setenv("ORCHESTRATOR_HOST", "127.0.0.2")
    assert authorization(fake, "--server", fake.url) == ""
    monkeypatch.delenv("ORCHESTRATOR_API_KEYS")
    Path("orchestrator.db.keys").write_text("a secret key\n")
    assert authorization(fake, "--server", fake.url) == ""


def test_localhost_is_reached_at_the_address_of_the_settings() -> None:
    """It may lead to ::1 as well, where another user's process may listen."""
    options = Options(server="http://localhost:8080/prefix")
    found = access_of(options, lambda: Settings.model_validate({"api_keys": [KEY]}), ManualClock())
    assert (found.server, found.who) == ("http://127.0.0.1:8080/prefix", KEY)


@pytest.mark.parametrize("source", ["a key", "bootstrap keys", "secret keys", "a database"])
def test_a_file_that_lies_in_the_folder_leads_no_other_credential_to_its_server(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    monkeypatch.chdir(folder)
    port, toml = fake.url.rpartition(":")[2], Path("orchestrator.toml")
    toml.write_text(f"port = {port}\n")
    match source:
        case "a key":
            monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY)
        case "bootstrap keys":
            monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
        case "secret keys":
            monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", "a secret key")
        case _:
            toml.write_text(f'port = {port}\ndatabase_url = "sqlite:///{tmp_path}/orchestrator.db"')
            (tmp_path / "orchestrator.db.keys").write_text("a secret key\n")
    ran = run("accounts", "ls")
    assert (ran.code, fake.asked) == (2, [])
    assert "is not sent to http://127.0.0.1" in ran.err
    assert f"give --config orchestrator.toml, or --server http://127.0.0.1:{port}" in ran.err
    # Naming the file or the server is consent.
    assert authorization(fake, "--config", "orchestrator.toml").startswith("Bearer orc_")
    assert authorization(fake, "--server", fake.url).startswith("Bearer orc_")


def test_a_file_in_the_folder_leads_its_own_credentials_to_its_server(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = f"port = {fake.url.rpartition(':')[2]}\n"
    Path("orchestrator.toml").write_text(toml)
    Path("orchestrator.db.keys").write_text("a secret key\n")
    assert authorization(fake).startswith("Bearer orc_pass.")
    Path("orchestrator.toml").write_text(f'{toml}api_keys = ["{KEY}"]\n')
    assert authorization(fake) == f"Bearer {KEY}"
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY)
    assert authorization(fake) == f"Bearer {KEY}"
    assert authorization(fake, "--api-key", KEY + "2") == f"Bearer {KEY}2"


def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("orc_\u00e9", "orc_\nx", "orc_\x7f"):
        ran = run("--server", fake.url, "--api-key", key, "accounts", "ls")
        assert (ran.code, "no HTTP header can carry" in ran.err) == (2, True)
        words = ("--server", fake.url, "--api-key", KEY, "submit", "--prompt", "a cat")
        assert run(*words, "--idempotency-key", key).code == 2
    assert fake.asked == []
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", f"{KEY}\n")
    assert authorization(fake, "--server", fake.url) == f"Bearer {KEY}"


def test_a_key_of_the_environment_goes_to_the_server_of_the_environment(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY)
    assert authorization(fake, "--server", fake.url) == f"Bearer {KEY}"
    monkeypatch.setenv("ORCHESTRATOR_SERVER", "https://orchestrator.example.com")
    fake.asked.clear()
    ran = run("--server", fake.url, "accounts", "ls")
    assert (ran.code, fake.asked) == (2, [])
    assert "--api-key gives the key of that server" in ran.err
    assert authorization(fake, "--server", fake.url, "--api-key", KEY + "2") == f"Bearer {KEY}2"
    monkeypatch.setenv("ORCHESTRATOR_SERVER", fake.url)
    assert authorization(fake) == f"Bearer {KEY}"


def test_a_server_and_a_key_are_enough_without_settings(fake: Fake) -> None:
    Path("orchestrator.toml").write_text("prt = 1\n")
    assert authorization(fake, "--server", fake.url, "--api-key", KEY) == f"Bearer {KEY}"
    ran = run("accounts", "ls")
    assert ran.code == 1
    assert "did you mean port?" in ran.err
    assert "`orchestrator config check` tries again" in ran.err
