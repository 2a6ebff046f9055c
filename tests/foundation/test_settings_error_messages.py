"""Settings: what is refused, with which message, and that no value is repeated."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import load

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


def refused(*config: Path, **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config[0] if config else None, **flags)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("prt = 1\n", "prt (orchestrator.toml)", "did you mean port?"),
        (
            MAIN + 'signatur = "none"\n',
            "accounts.main.signatur (orchestrator.toml)",
            "accounts.main.signature?",
        ),
        (
            MAIN + "[accounts.main.poll]\nfirst = 1\n",
            "accounts.main.poll.first ",
            "accounts.main.poll.first_after?",
        ),
        (
            MAIN + 'signature = "requird"\n',
            "accounts.main.signature ",
            "'required', 'optional' or 'none'",
        ),
        (MAIN + 'signature = "required"\n', "accounts.main.signature ", "webhook_secrets"),
        (MAIN + 'webhook_secrets = ["whsec_?"]\n', "accounts.main.webhook_secrets.0 ", "Base64"),
        (
            MAIN + "max_in_flight = 0\n",
            "accounts.main.max_in_flight ",
            "greater than or equal to 1",
        ),
        (MAIN + "rate_limit = 0\n", "accounts.main.rate_limit ", "greater than 0"),
        (MAIN + "rate_limit = inf\n", "accounts.main.rate_limit ", "finite number"),
        (MAIN + 'rate_limit = "fast"\n', "accounts.main.rate_limit ", "valid number"),
        (MAIN + "ratelimit = 1\n", "accounts.main.ratelimit ", "accounts.main.rate_limit?"),
        (MAIN + 'name = "x"\n', "accounts.main.name ", "there is no such setting"),
        (
            MAIN + "[accounts.main.poll]\ninterval = -1\n",
            "accounts.main.poll.interval ",
            "greater than 0",
        ),
        (
            MAIN + "[accounts.main.poll]\ninterval = 200\n",
            "accounts.main.poll.max_interval ",
            "smaller than interval",
        ),
        (MAIN + 'base_url = "vendor.example"\n', "accounts.main.base_url ", "https://"),
        ("[accounts.main]\n", "accounts.main.vendor", "required"),
        ('[accounts.Main]\nvendor = "kling"\n', "accounts.Main ", "a-z"),
        ('allow_private = ["10.0.0.1/8"]\n', "allow_private.0 ", "127.0.0.0/8"),
        ('api_keys = ["orc_short"]\n', "api_keys.0 ", "32 or more"),
        ('secret_keys = [""]\n', "secret_keys.0 ", "long random text"),
        ('database_url = "mysql://h/d"\n', "database_url ", "sqlite:///"),
        ('public_url = "hooks.example.com"\n', "public_url ", "https://"),
        ('log_format = "xml"\n', "log_format ", "'auto', 'json' or 'console'"),
        ("port = 70000\n", "port ", "65535"),
    ],
)
def test_a_message_says_where_and_what_to_write_instead(text: str, where: str, hint: str) -> None:
    toml(text)
    message = refused()
    assert message.startswith(where)
    assert hint in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("environ", "flags", "where", "hint"),
    [
        (
            {"ORCHESTRATOR_PUBLIC_UR": "x"},
            {},
            "public_ur (ORCHESTRATOR_PUBLIC_UR)",
            "did you mean public_url?",
        ),
        (
            {"ORCHESTRATOR_ACCOUNTS__A__VENDR": "x"},
            {},
            "(ORCHESTRATOR_ACCOUNTS__A__VENDR)",
            "accounts.a.vendor?",
        ),
        ({"ORCHESTRATOR_PORT__X": "1"}, {}, "port (ORCHESTRATOR_PORT__X)", "integer"),
        ({}, {"prt": 1}, "prt (flag --prt)", "did you mean port?"),
        ({"ORCHESTRATOR_ACCOUNTS": "{"}, {}, "ORCHESTRATOR_ACCOUNTS", "not JSON"),
        ({"ORCHESTRATOR_SECRETS_DIR": "nowhere"}, {}, "nowhere", "not a directory"),
        ({"ORCHESTRATOR_CONFIG": "nowhere.toml"}, {}, "nowhere.toml", "No such file"),
    ],
)
def test_unknown_variables_and_flags_are_refused_too(
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    where: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    message = refused(**flags)
    assert where in message
    assert hint in message


def test_every_fault_has_a_line() -> None:
    toml('port = "x"\nhost = ""\nprt = 1\n')
    assert len(refused().splitlines()) == 3


def test_broken_toml_is_refused_with_its_position() -> None:
    toml("port = 1\nhost = \n")
    assert "orchestrator.toml: Invalid value (at line 2, column 8)" in refused()


def test_a_named_file_that_is_missing_is_refused() -> None:
    assert "nowhere.toml" in refused(Path("nowhere.toml"))


@pytest.mark.parametrize(
    "text",
    [
        MAIN + 'api_key = ["s3cret"]\n',
        MAIN + 'webhook_secrets = ["s3cret!"]\n',
        'api_keys = ["s3cret"]\n',
        'secret_keys = "s3cret"\n',
        'database_url = "s3cret"\n',
        'secret_keys = ["s3cret" "s3cret"]\n',
    ],
)
def test_a_message_never_repeats_the_value(text: str) -> None:
    toml(text)
    assert "s3cret" not in refused()
