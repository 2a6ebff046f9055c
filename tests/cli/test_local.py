"""Commands that need no server: configuration, signatures, the first key."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
import standardwebhooks

from orchestrator.cli.access import Access
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Keys
from tests.harness.command_line import SECRET, Fake, run
from tests.harness.runtime import ManualClock


def test_signatures_are_valid_standard_webhooks() -> None:
    Path("body.json").write_bytes(b'{"a": 1}')
    signed = run("signature", "sign", "--secret", SECRET, "--file", "body.json", "--json")
    headers = json.loads(signed.out)
    assert standardwebhooks.Webhook(SECRET).verify(b'{"a": 1}', headers) == {"a": 1}
    flags = [f"--{name}={headers[f'webhook-{name}']}" for name in ("id", "timestamp", "signature")]
    assert run("signature", "verify", "--secret", SECRET, "--file", "body.json", *flags).code == 0
    Path("body.json").write_bytes(b'{"a": 2}')
    ran = run("signature", "verify", "--secret", SECRET, "--file", "body.json", *flags)
    assert ran.code == 1
    assert "no signature matches" in ran.err


def signed(body: bytes, **more: str) -> dict[str, str]:
    Path("body.json").write_bytes(body)
    words = [f"--{name}={value}" for name, value in more.items()]
    headers: dict[str, str] = json.loads(
        run("signature", "sign", "--secret", SECRET, "--file", "body.json", "--json", *words).out
    )
    return headers


def test_pasted_headers_are_verified_as_they_came() -> None:
    headers = signed(b"{}")
    lines = "".join(f"< {name.title()}: {value}\r\n" for name, value in headers.items())
    Path("headers.txt").write_text(f"POST /hook HTTP/1.1\r\n{lines}Host: x\r\n")
    words = ("signature", "verify", "--secret", SECRET, "--file", "body.json")
    assert run(*words, "--header-file", "headers.txt").code == 0
    assert run(*words, "--headers", lines).code == 0
    assert run(*words).code == 2


@pytest.mark.parametrize(
    ("changed", "secret", "check", "words"),
    [
        ({"webhook-timestamp": ""}, SECRET, "header_missing", "webhook-timestamp missing"),
        ({"webhook-timestamp": "soon"}, SECRET, "timestamp_malformed", "'soon'"),
        ({"webhook-timestamp": "1"}, SECRET, "timestamp_too_far", "--any-time"),
        ({"webhook-timestamp": "99999999999"}, SECRET, "timestamp_too_far", "ahead of this clock"),
        ({"webhook-signature": "v2,aGVsbG8="}, SECRET, "no_match", "holds no v1,<base64>"),
        ({"webhook-id": "msg_other"}, SECRET, "no_match", "another secret, or not the exact bytes"),
        ({}, SECRET[:-4] + "AAA=", "no_match", "another secret"),
        ({}, "whsec_?", "secret_malformed", "begins with whsec_"),
    ],
)
def test_an_invalid_signature_names_the_failed_check(
    changed: dict[str, str], secret: str, check: str, words: str
) -> None:
    headers = signed(b"{}") | changed
    pasted = "\n".join(f"{name}: {value}" for name, value in headers.items())
    ran = run(
        "signature",
        "verify",
        "--secret",
        secret,
        "--file",
        "body.json",
        "--headers",
        pasted,
        "--json",
    )
    assert ran.code == 1
    assert json.loads(ran.out)["failed"] == check
    assert words in ran.err


def test_a_newline_added_by_an_editor_is_recognised() -> None:
    headers = signed(b"{}")
    Path("body.json").write_bytes(b"{}\n")
    pasted = "\n".join(f"{name}: {value}" for name, value in headers.items())
    ran = run("signature", "verify", "--secret", SECRET, "--file", "body.json", "--headers", pasted)
    assert ran.code == 1
    assert "without the newline at its end" in ran.err


def test_config_init_writes_a_complete_private_file_once() -> None:
    assert run("config", "init").code == 0
    assert stat.S_IMODE(Path("orchestrator.toml").stat().st_mode) == 0o600
    assert run("config", "check").code == 0
    before = Path("orchestrator.toml").read_bytes()
    assert run("config", "init").code == 5
    assert Path("orchestrator.toml").read_bytes() == before
    shown = json.loads(run("config", "show", "--json").out)
    assert shown["secret_keys"] == {"value": ["***"], "origin": "orchestrator.toml"}
    assert shown["port"] == {"value": 8080, "origin": "default"}


def test_config_check_includes_the_vendors_checks() -> None:
    Path("orchestrator.toml").write_text(
        '[accounts.a]\nvendor = "nope"\n[accounts.b]\nvendor = "dreamto"\n'
    )
    ran = run("config", "check")
    assert ran.code == 1
    assert "accounts.a.vendor" in ran.err
    assert "accounts.b." in ran.err


def test_config_check_warns_of_a_weak_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret, warned in (("x" * 31, True), ("x" * 32, False)):
        monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", secret)
        ran = run("config", "check")
        assert ran.code == 0
        assert ("warning: secret_keys: 1 with fewer than 32" in ran.err) is warned
        assert secret not in ran.err


@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
def test_config_check_warns_of_a_delay_that_the_policy_ignores(policy: str) -> None:
    Path("orchestrator.toml").write_text(
        '[accounts.a]\nvendor = "dreamto"\nbase_url = "https://v.example"\napi_key = "k"\n'
        f'poll = {{ policy = "{policy}", max_missed_delay = 20 }}\n'
    )
    Path("orchestrator.toml").chmod(0o600)
    ran = run("config", "check")
    assert ran.code == 0
    words = "warning: accounts.a.poll.max_missed_delay has no effect"
    assert (words in ran.err) is (policy == "fixed")


def test_config_check_refuses_a_partial_role_on_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_ROLE", "api")
    ran = run("config", "check")
    assert ran.code == 1
    assert "SQLite serves one process" in ran.err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u@127.0.0.1:1/d", "the server must be up"),
        ("sqlite://", "names no file"),
        ("sqlite:///nodir/x.db", "nodir is not there; make that folder"),
        ("sqlite:////proc/self/x.db", "/proc/self cannot be written"),
        ("sqlite:///folder", "no file that can be read and written"),
    ],
)
def test_config_check_looks_at_the_database_and_creates_nothing(
    monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    Path("folder").mkdir()
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", url)
    ran = run("config", "check")
    assert ran.code == 1
    assert words in ran.err
    assert "secret_keys" not in ran.err
    assert "tries again" not in ran.err
    assert [path.name for path in Path().iterdir()] == ["folder"]


def test_config_check_reads_the_key_file_if_there_is_one() -> None:
    assert run("config", "check").code == 0
    assert list(Path().iterdir()) == []
    Path("orchestrator.db.keys").write_text("\n")
    ran = run("config", "check")
    assert ran.code == 1
    assert "holds no key" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "--role", "nothing"),
        ("serve", "--public-url", "nothing"),
        ("serve", "--workers", "2"),
        ("migrate", "--database-url", "mysql://x"),
        ("migrate", "--from", "nothing", "--database-url", "postgresql://u@127.0.0.1:1/x"),
        ("migrate", "--from", "sqlite:///nothing.db"),
        ("--config", "nothing.toml", "serve"),
        ("config", "check", "--config", "nothing.toml"),
        ("config", "init", "--file", "nothing/orchestrator.toml"),
        ("restore", "nothing.db"),
        ("keys", "create", "--expires", ""),
        ("listen", "--secret", "nothing"),
    ],
)
def test_a_wrong_value_on_the_command_line_is_wrong_usage(words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert "config check" not in ran.err


def test_a_wrong_value_in_a_file_is_an_error_of_the_settings() -> None:
    Path("orchestrator.toml").write_text('role = "nothing"\n')
    ran = run("serve", "--port", "0")
    assert ran.code == 1
    assert "`orchestrator config check` tries again" in ran.err


def test_a_malformed_secret_flag_is_not_blamed_on_the_settings() -> None:
    ran = run("signature", "sign", "--secret", "whsec_?", stdin="{}")
    assert ran.code == 2
    assert "config check" not in ran.err


def test_the_first_key_is_created_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    made = run("keys", "create", "--name", "ci", "--scope", "write", "--expires", "90d")
    assert made.code == 0
    secret = made.out.strip()
    assert re.fullmatch(r"orc_[\w-]{43}", secret)
    listed = json.loads(run("keys", "ls", "--json").out)
    assert [(key["name"], key["scope"]) for key in listed["data"]] == [("ci", "write")]
    assert secret not in json.dumps(listed)


def test_a_key_for_a_named_server_is_not_created_locally() -> None:
    ran = run("keys", "create", "--name", "ci", "--server", "http://127.0.0.1:1")
    assert ran.code == 8
    assert not Path("orchestrator.db").exists()


def test_the_callback_secret_is_the_same_with_and_without_a_server(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", "one long random text")
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    assert run("secrets", "callback").out.startswith("whsec_")
    fake.script("GET /v1/signing-key", (200, {"object": "signing_key", "secret": SECRET}))
    assert run("--server", fake.url, "secrets", "callback").out == f"{SECRET}\n"


def test_each_request_carries_a_new_operator_pass() -> None:
    """A pass is valid for a minute, and following the log takes longer."""
    clock, settings = ManualClock(), Settings.model_validate({"secret_keys": ["k" * 40]})
    bearer = Access.local("http://127.0.0.1:8080", settings, clock).bearer
    assert bearer is not None
    for _ in range(3):
        assert Keys(["k" * 40]).accepts_pass(bearer().removeprefix("orc_pass."), clock.now())
        clock.advance(3600)


def test_version_is_the_packages() -> None:
    document = json.loads(run("version", "--json").out)
    assert re.fullmatch(r"\d+\.\d+\.\d+", document["version"])
