"""Proxy and certificate variables: they work, or one line names the variable."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import pytest

from orchestrator.client import AsyncClient, Client
from orchestrator.client.environment import way
from orchestrator.foundation.errors import ConfigError
from tests.harness.command_line import KEY, run

SERVER = "https://orchestrator.invalid"
PROXY = "http://user:hunter2@proxy.invalid:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()):
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("server", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("http://127.example", False),
    ],
)
def test_loopback_ignores_the_proxies_of_the_environment(
    server: str, loopback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    assert (way(server)["proxy"] is None) is loopback


def test_certificates_are_verified_with_https() -> None:
    """Without https the store stays empty: loading the authorities takes longer than a call."""
    authorities, none = (
        way("HTTPS://there.example")["verify"],
        way("http://there.example")["verify"],
    )
    assert authorities.verify_mode is none.verify_mode is ssl.CERT_REQUIRED
    assert authorities.cert_store_stats()["x509"] > 0
    assert none.cert_store_stats()["x509"] == 0


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("fe80::/10", SERVER, True),
        ("fe80::/10", "http://[fe80::1]/", False),
        ("10.0.0.0/8, garbage:::, [::1]:x", "http://10.1.2.3:8080", False),
        ("10.0.0.0/8", "http://11.1.2.3:8080", True),
        ("10.1.2.3", "http://10.1.2.3", False),
        ("*", SERVER, False),
        ("invalid", SERVER, False),
        (".invalid", SERVER, False),
        ("*.invalid", SERVER, False),
        ("orchestrator.invalid:443", SERVER, False),
        ("orchestrator.invalid:8443", SERVER, True),
        ("https://orchestrator.invalid", SERVER, False),
        ("tor.invalid valid", SERVER, True),
        ("", SERVER, True),
    ],
)
def test_no_proxy_takes_names_domains_addresses_and_networks(
    no_proxy: str, url: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("http_proxy", "proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    found = way(url)["proxy"]
    assert (found is not None) is proxied
    assert found is None or found.url.host == "proxy.invalid"
    Client(url).close()


BROKEN = [
    ("ALL_PROXY", "socks5://user:hunter2@127.0.0.1:1"),
    ("all_proxy", ":::"),
    ("HTTPS_PROXY", "http://hunter2:notaport"),
    ("https_proxy", "garbage://hunter2 y"),
    ("HTTPS_PROXY", "socks4://hunter2:1"),
    ("HTTPS_PROXY", "http://"),
    ("SSL_CERT_FILE", "/nonexistent.pem"),
    ("SSL_CERT_FILE", "/etc/passwd"),
    ("SSL_CERT_FILE", "/"),
    ("SSL_CERT_DIR", "/nonexistent"),
]


@pytest.mark.parametrize(("variable", "value"), BROKEN)
def test_one_line_names_a_variable_that_cannot_be_used(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    for client in (Client, AsyncClient):
        with pytest.raises(ConfigError, match=f"^{variable}: ") as error:
            client(SERVER)
        assert "hunter2" not in str(error.value)
    for words in (("jobs", "ls"), ("doctor",)):
        ran = run("--server", SERVER, "--api-key", KEY, *words)
        assert ran.code in (1, 9)
        assert variable in ran.out + ran.err
        assert "Traceback" not in ran.err
    Client("http://127.0.0.1:8080").close()


def test_the_authorities_of_the_variables_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = Path(certifi.where()).read_text(encoding="utf-8")
    end = "-----END CERTIFICATE-----\n"
    one = tmp_path / "one.pem"
    one.write_text(everything.partition(end)[0] + end, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(one))
    assert way(SERVER)["verify"].cert_store_stats()["x509"] == 1
