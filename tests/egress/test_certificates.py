"""TLS: what is trusted, and which fault of a certificate is told apart."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.app import check
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.transport import GuardedTransport
from orchestrator.foundation.authorities import client_context
from orchestrator.foundation.errors import ConfigError, NotSent
from tests.harness.raw_http import OK, open_client, post, responding, serving
from tests.harness.runtime import settings

DAY = datetime.timedelta(days=1)


@dataclass
class Authority:
    """An authority; itself its own issuer."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        self.pem = self.folder / "authority.pem"
        self.pem.write_bytes(self._signed(self._key, self._name, ca=True))

    def server(
        self, *names: str, starts: int = -1, ends: int = 1, self_signed: bool = False
    ) -> ssl.SSLContext:
        """Return a server's context, its certificate valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(
            key, _named("server"), *names, starts=starts, ends=ends, self_signed=self_signed
        )
        pem = self.folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem.write_bytes(signed + private)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)
        return context

    def _signed(
        self,
        key: ec.EllipticCurvePrivateKey,
        name: x509.Name,
        *names: str,
        ca: bool = False,
        starts: int = -1,
        ends: int = 1,
        self_signed: bool = False,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        issuer, signer = (name, key) if self_signed else (self._name, self._key)
        serial, public = x509.random_serial_number(), key.public_key()
        builder = x509.CertificateBuilder(issuer, name, public, serial)
        builder = builder.not_valid_before(now + starts * DAY).not_valid_after(now + ends * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def fault(server_side: ssl.SSLContext, trusted: ssl.SSLContext) -> str:
    """Return the kind of error of a request to a server at `localhost`; empty for none."""
    async with serving(responding(OK), server_side) as server, open_client(tls=trusted) as client:
        request = post(server.url(scheme="https", host="localhost"))
        try:
            await client.send(request, deadline=5)
        except NotSent as error:
            assert request.extensions["sent"] is False
            return error.kind
    return ""


async def test_faults_of_a_certificate_are_told_apart(authority: Authority) -> None:
    trusted, nothing = client_context(str(authority.pem)), client_context()
    assert await fault(authority.server("localhost"), trusted) == ""
    faults = [
        await fault(authority.server("localhost", starts=-9, ends=-1), trusted),
        await fault(authority.server("localhost", starts=1, ends=9), trusted),
        await fault(authority.server("localhost", self_signed=True), trusted),
        await fault(authority.server("localhost"), nothing),
        await fault(authority.server("other.example"), trusted),
    ]
    assert faults == [
        "certificate_expired",
        "certificate_not_yet_valid",
        "certificate_self_signed",
        "certificate_unknown_issuer",
        "certificate_wrong_name",
    ]


async def test_ssl_cert_file_names_the_trusted_authorities(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    assert await fault(authority.server("localhost"), client_context()) == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/nonexistent.pem"),
        ("SSL_CERT_FILE", "/etc/passwd"),
        ("SSL_CERT_FILE", "/"),
        ("SSL_CERT_DIR", "/nonexistent:/neither"),
    ],
)
def test_the_service_does_not_start_with_authorities_that_cannot_be_read(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL ignores them, and then no certificate is valid."""
    monkeypatch.setenv(variable, value)
    for start in (lambda: check(settings(tmp_path)), lambda: GuardedTransport(AddressPolicy())):
        with pytest.raises(ConfigError, match=variable):
            start()


@pytest.mark.parametrize("name", ["absent.pem", "broken.pem", "\0"])
def test_a_ca_file_that_cannot_be_read_is_a_config_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="ca_file"):
        check(settings(tmp_path, ca_file=str(tmp_path / name)))
