"""Settings: precedence, what is shown, and where the secret keys come from."""

from __future__ import annotations

import base64
import json
import operator
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import Settings, ensure_secret_keys, load

WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()
KEY = "orc_" + "a" * 32
MAIN = '[accounts.main]\nvendor = "kling"\n'


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has a folder of its own and none of the variables of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("ORCHESTRATOR_") or name in (
            "DATABASE_URL",
            "PORT",
            "PUBLIC_URL",
        ):
            monkeypatch.delenv(name)


def toml(text: str) -> Path:
    path = Path("orchestrator.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_configured_gives_the_documented_defaults() -> None:
    settings = load()
    assert settings.model_dump() == Settings().model_dump()
    assert (settings.host, settings.port, settings.database_url) == (
        "127.0.0.1",
        8080,
        "sqlite:///orchestrator.db",
    )
    assert set(settings.origins().values()) == {"default"}


def test_a_configuration_file_is_read() -> None:
    toml(
        f"""
        public_url = "https://hooks.example.com"
        secret_keys = ["newest", "older"]
        allow_private = ["127.0.0.0/8"]
        api_keys = ["{KEY}"]
        [accounts.main]
        vendor = "cloudsway"
        base_url = "https://vendor.example/v1"
        api_key = "k"
        signature = "optional"
        webhook_secrets = ["{WHSEC}"]
        on_lost_submit = "at_least_once"
        [accounts.main.options]
        endpoint_path = "my-endpoint"
        [accounts.main.poll]
        first_after = 4
        """
    )
    account = load().accounts["main"]
    assert (account.name, account.at_least_once) == ("main", True)
    assert account.options == {"endpoint_path": "my-endpoint"}
    assert (account.poll.first_after, account.poll.interval) == (4, 15)
    assert account.webhook_secrets[0].get_secret_value() == WHSEC


@pytest.mark.parametrize(
    ("lower", "expected", "origin"),
    [
        (("toml",), 1, "orchestrator.toml"),
        (("toml", "secret"), 2, "secrets/orchestrator_port"),
        (("toml", "secret", "platform"), 3, "PORT"),
        (("toml", "secret", "platform", "environment"), 4, "ORCHESTRATOR_PORT"),
        (("toml", "secret", "platform", "environment", "flag"), 5, "flag --port"),
    ],
)
def test_a_stronger_source_takes_precedence(
    lower: tuple[str, ...], expected: int, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml("port = 1\n")
    if "secret" in lower:
        Path("secrets").mkdir()
        Path("secrets/orchestrator_port").write_text("2\n")
        monkeypatch.setenv("ORCHESTRATOR_SECRETS_DIR", "secrets")
    if "platform" in lower:
        monkeypatch.setenv("PORT", "3")
    if "environment" in lower:
        monkeypatch.setenv("ORCHESTRATOR_PORT", "4")
    settings = load(port=5 if "flag" in lower else None)
    assert (settings.port, settings.origins()["port"]) == (expected, origin)


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("ORCHESTRATOR_ACCOUNTS__MAIN__API_KEY", "k", ("accounts", "main", "api_key"), "k"),
        (
            "ORCHESTRATOR_ACCOUNTS__MAIN__POLL__INTERVAL",
            "7.5",
            ("accounts", "main", "poll", "interval"),
            7.5,
        ),
        ("ORCHESTRATOR_ACCOUNTS__MAIN__RATE_LIMIT", "2.5", ("accounts", "main", "rate_limit"), 2.5),
        (
            "ORCHESTRATOR_ACCOUNTS__MAIN__OPTIONS__ROUTE",
            "12",
            ("accounts", "main", "options", "route"),
            "12",
        ),
        (
            "ORCHESTRATOR_ACCOUNTS__MAIN__WEBHOOK_SECRETS",
            WHSEC,
            ("accounts", "main", "webhook_secrets", 0),
            WHSEC,
        ),
        (
            "ORCHESTRATOR_ALLOW_PRIVATE",
            "10.0.0.0/8, 127.0.0.0/8",
            ("allow_private", 1),
            "127.0.0.0/8",
        ),
        ("ORCHESTRATOR_ALLOW_PRIVATE", '["10.0.0.0/8"]', ("allow_private", 0), "10.0.0.0/8"),
        (
            "ORCHESTRATOR_ACCOUNTS",
            '{"second": {"vendor": "uniall"}}',
            ("accounts", "second", "vendor"),
            "uniall",
        ),
        ("orchestrator_host", "0.0.0.0", ("host",), "0.0.0.0"),
        ("DATABASE_URL", "postgres://u@h/d", ("database_url",), "postgresql://u@h/d"),
    ],
)
def test_the_environment_holds_nested_settings_and_lists(
    name: str,
    value: str,
    path: tuple[str | int, ...],
    expected: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toml(MAIN)
    monkeypatch.setenv(name, value)
    here: Any = load()
    for part in path:
        here = (
            getattr(here, part)
            if isinstance(part, str) and hasattr(here, part)
            else operator.getitem(here, part)
        )
    assert (here.get_secret_value() if hasattr(here, "get_secret_value") else here) == expected


def test_the_environment_adds_to_an_account_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    toml(MAIN + 'api_key = "file"\naccess_key = "kept"\n')
    monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS__MAIN__API_KEY", "environment")
    settings = load()
    account = settings.accounts["main"]
    assert account.api_key.get_secret_value() == "environment"
    assert account.access_key.get_secret_value() == "kept"
    assert settings.origins()["accounts.main.api_key"] == "ORCHESTRATOR_ACCOUNTS__MAIN__API_KEY"
    assert settings.origins()["accounts.main.vendor"] == "orchestrator.toml"


def test_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PORT", "")
    assert load().port == 8080


@pytest.mark.parametrize(
    "service", ["", "API_", "V2_API_", "SERVER_", "PORT_", "ACCOUNTS_", "A__B_", "DATABASE_URL_"]
)
def test_variables_injected_by_kubernetes_are_not_settings(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """A pod gets these for every service of its namespace, whatever follows `orchestrator-`."""
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP_METRICS": "80",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "PORT_53_UDP": "udp://10.0.0.1:53",
        "PORT_9_SCTP_ADDR": "fd00::1",
    }.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{service}{name}", value)
    monkeypatch.setenv("PORT", "udp://10.0.0.1:53")
    assert load().origins()["port"] == "default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "80"),
        ("PRT", "tcp://10.0.0.1:80"),
        ("SERVICE", "10.0.0.1"),
        ("DATABASE_URL", "tcp://10.0.0.1:5432"),
        ("ACCOUNTS__MAIN__SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_a_variable_that_only_resembles_an_injected_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    with pytest.raises(ConfigError, match=f"ORCHESTRATOR_{name}"):
        load()


def test_the_configuration_variable_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("port = 1\n").rename("elsewhere.toml")
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", "elsewhere.toml")
    assert load().port == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:two words@host/name", "postgresql://user:***@host/name"),
        ("postgresql://user:a/b@c@host/name", "postgresql://user:***@host/name"),
        ("postgresql://user@host:5432/name", "postgresql://user@host:5432/name"),
        ("postgresql://host:5432/name?application_name=a@b", None),
        ("sqlite:////data/a:b@c.db", None),
    ],
)
def test_the_password_of_a_url_is_masked_whatever_it_contains(url: str, shown: str | None) -> None:
    assert Settings(database_url=url).redacted()["database_url"] == (shown or url)


def test_secrets_are_masked_in_redacted_and_repr() -> None:
    settings = Settings.model_validate(
        {
            "database_url": "postgresql://user:s3cret@host/name",
            "secret_keys": ["s3cret"],
            "api_keys": [KEY],
            "accounts": {
                "main": {"vendor": "kling", "secret_key": "s3cret", "webhook_secrets": [WHSEC]}
            },
        }
    )
    shown = settings.redacted()
    assert shown["database_url"] == "postgresql://user:***@host/name"
    assert shown["secret_keys"] == ["***"]
    for hidden in (KEY, WHSEC):
        assert hidden not in f"{shown} {settings}"
    assert "s3cret" not in str(shown)


def test_secret_keys_are_made_once_next_to_the_database_and_readable_by_the_owner_only(
    tmp_path: Path,
) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/jobs.db")
    first = ensure_secret_keys(settings)
    path = tmp_path / "jobs.db.keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first.secret_keys[0].get_secret_value()) >= 43
    assert first.origins()["secret_keys"] == str(path)
    assert ensure_secret_keys(settings).secret_keys == first.secret_keys
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_key_file_is_read_newest_first(tmp_path: Path) -> None:
    (tmp_path / "jobs.db.keys").write_text("newest\nolder\n\n")
    keys = ensure_secret_keys(Settings(database_url=f"sqlite:///{tmp_path}/jobs.db")).secret_keys
    assert [key.get_secret_value() for key in keys] == ["newest", "older"]


def test_configured_secret_keys_need_no_file(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"database_url": f"sqlite:///{tmp_path}/jobs.db", "secret_keys": ["mine"]}
    )
    assert ensure_secret_keys(settings) is settings
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["postgresql://user@host/name", "sqlite://", "sqlite:///:memory:"])
def test_without_a_database_file_secret_keys_are_required(url: str) -> None:
    with pytest.raises(ConfigError, match="secret_keys: required"):
        ensure_secret_keys(Settings(database_url=url))


def test_an_empty_key_file_is_not_replaced(tmp_path: Path) -> None:
    """New keys would make every stored secret unreadable."""
    (tmp_path / "jobs.db.keys").write_text("\n")
    with pytest.raises(ConfigError, match="holds no key"):
        ensure_secret_keys(Settings(database_url=f"sqlite:///{tmp_path}/jobs.db"))


def test_a_missing_folder_is_reported() -> None:
    with pytest.raises(ConfigError, match="writable"):
        ensure_secret_keys(Settings(database_url="sqlite:///nowhere/jobs.db"))


@pytest.mark.parametrize("name", ["api_key", "access_key", "secret_key"])
@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "  {} \t", "\n{}\n\n"])
def test_blanks_around_a_credential_are_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, around: str
) -> None:
    """`echo KEY > file` and a pasted variable leave a newline behind it."""
    file = tmp_path / "x.toml"
    file.write_text('[accounts.main]\nvendor = "kling"\n')
    monkeypatch.setenv(f"ORCHESTRATOR_ACCOUNTS__MAIN__{name.upper()}", around.format("a key"))
    account = load(file).accounts["main"]
    assert getattr(account, name).get_secret_value() == "a key"


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "a\tb", "a\x7fb", "a\u00e9", "\u952e", "a\u200b", "a\x00b"]
)
@pytest.mark.parametrize("name", ["api_key", "access_key", "secret_key"])
def test_a_credential_that_no_header_can_carry_is_refused_by_its_name(
    tmp_path: Path, name: str, value: str
) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'[accounts.main]\nvendor = "kling"\n{name} = {json.dumps(value)}\n')
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith(f"accounts.main.{name} ({file}): has characters that no")
    assert value not in str(refused.value)


def test_other_settings_lose_the_blanks_around_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "whsec_aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ="
    for name, value in {
        "API_KEYS": "orc_" + "k" * 32,
        "SECRET_KEYS": "s" * 40,
        "PUBLIC_URL": "https://hooks.example.com",
        "PORT": "9000",
        "ACCOUNTS__MAIN__VENDOR": "kling",
        "ACCOUNTS__MAIN__BASE_URL": "https://vendor.example.com",
        "ACCOUNTS__MAIN__WEBHOOK_SECRETS": json.dumps([secret + "\n"]),
        "ACCOUNTS__MAIN__OPTIONS__STANDARD": "new",
    }.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", f" {value}\n")
    settings = load()
    main = settings.accounts["main"]
    assert [key.get_secret_value() for key in settings.api_keys] == ["orc_" + "k" * 32]
    assert [key.get_secret_value() for key in settings.secret_keys] == ["s" * 40]
    assert (settings.public_url, settings.port) == ("https://hooks.example.com", 9000)
    assert (main.base_url, main.options["standard"]) == ("https://vendor.example.com", "new")
    assert [key.get_secret_value() for key in main.webhook_secrets] == [secret]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('base_url = "https://a.example/\\nb"', "base_url"),
        ('base_url = "https://a example/"', "base_url"),
        ('options = { standard = "new\\nold" }', "options.standard"),
    ],
)
def test_a_text_that_no_url_can_carry_is_refused_by_its_name(line: str, where: str) -> None:
    with pytest.raises(ConfigError, match=f"accounts.main.{where}"):
        load(toml(f"{MAIN}{line}\n"))


@pytest.fixture(params=["named", "default"])
def secrets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A secrets directory as Kubernetes mounts it: links into `..data`, beside others' files."""
    folder = Path("mounted").absolute()
    (folder / "..2026_11_20").mkdir(parents=True)
    (folder / "..2026_11_20/orchestrator_port").write_text("9000\n")
    (folder / "..data").symlink_to("..2026_11_20")
    (folder / "orchestrator_port").symlink_to("..data/orchestrator_port")
    (folder / "tls.der").write_bytes(b"\x30\x82\xff\x00")
    (folder / "kubernetes.io").mkdir()
    (folder / "locked").write_text("theirs")
    (folder / "locked").chmod(0)
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    if request.param == "named":
        monkeypatch.setenv("ORCHESTRATOR_SECRETS_DIR", str(folder))
    else:
        monkeypatch.setattr("orchestrator.foundation.settings._SECRETS_DIR", folder)
    return folder


def test_others_files_in_the_secrets_directory_are_left_alone(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Path.open

    def recorded(self: Path, *args: Any) -> Any:
        opened.append(self.name)
        return real(self, *args)

    monkeypatch.setattr(Path, "open", recorded)
    assert load().port == 9000
    assert opened == ["orchestrator_port"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8 text (at byte 0)"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: path.symlink_to("nowhere"), "not a file"),
        (os.mkfifo, "not a file"),
        (lambda path: path.write_bytes(b"x" * (1 << 20 | 1)), "over 1 MiB"),
    ],
    ids=["binary", "folder", "broken link", "pipe", "large"],
)
def test_a_fault_in_the_secrets_directory_names_the_file(
    secrets: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(secrets / "orchestrator_public_url")
    with pytest.raises(ConfigError) as refused:
        load()
    assert f"{secrets}/orchestrator_public_url: {words}" in str(refused.value)


def test_an_unknown_name_is_a_mistake_only_in_a_directory_that_is_named(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "orchestrator_db_password").write_text("theirs")
    if "ORCHESTRATOR_SECRETS_DIR" not in os.environ:
        assert load().port == 9000
        return
    with pytest.raises(ConfigError, match="orchestrator_db_password"):
        load()
