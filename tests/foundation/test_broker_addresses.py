"""Addresses of brokers and mailboxes: one reading of each, and no secret that is shown."""

from __future__ import annotations

import pytest

from orchestrator.foundation import addresses, broker_addresses
from orchestrator.foundation.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "endpoints", "origin", "canonical", "shown"),
    [
        ("nats://H.example:4222/a.b", [("h.example", 4222)], "nats://h.example:4222",
         "nats://h.example:4222/a.b", "nats://h.example:4222/a.b"),
        ("AMQPS://me@h/prod?exchange=x&y=secret1", [("h", None)], "amqps://h",
         "amqps://me@h/prod?exchange=x&y=secret1", "amqps://h/prod?exchange=x"),
        ("kafka://A:1,b/t", [("a", 1), ("b", None)], "kafka://a:1,b", "kafka://a:1,b/t",
         "kafka://a:1,b/t"),
        ("redis://[::1]:6379/0?stream=s", [("::1", 6379)], "redis://[::1]:6379",
         "redis://[::1]:6379/0?stream=s", "redis://[::1]:6379/0?stream=s"),
        ("mailto:a@x.example,b@x.example?cc=c", [], "mailto:a@x.example,b@x.example?cc=c",
         "mailto:a@x.example,b@x.example?cc=c", "mailto:a@x.example,b@x.example"),
    ],
)  # fmt: skip
def test_an_address_has_one_reading(
    address: str, endpoints: list[object], origin: str, canonical: str, shown: str
) -> None:
    assert broker_addresses.parse(address).endpoints == endpoints
    assert addresses.origin(address) == origin
    assert addresses.canonical(address) == addresses.canonical(canonical) == canonical
    assert addresses.shown(address) == shown


@pytest.mark.parametrize(
    "address",
    ["nats://h:0/x", "nats://h:65536/x", "nats://h/x#y", "nats://h/\u00fc", "nats://h\\@i/x",
     "nats://a@b@c/x", "nats://h:1:2/x", "nats:///x", "nats://h,/x", "nats://-h/x", "nats", ""],
)  # fmt: skip
def test_what_two_parsers_may_read_differently_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        broker_addresses.parse(address)
    # One of a kind with a form of its own is shown by its scheme alone.
    assert addresses.shown(address) == addresses.hidden(address)


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("nats://me:pw@h/x", "password"), ("nats://h/x?auth_token=1", "auth_token"),
        ("amqps://me@h/v?routing_key=k&exchange=e", None), ("redis://h?PASSWORD=1", "PASSWORD"),
    ],
)  # fmt: skip
def test_a_secret_in_an_address_is_recognized(address: str, secret: str | None) -> None:
    assert broker_addresses.parse(address).secret == secret


def test_what_a_broker_repeats_of_a_secret_is_masked() -> None:
    place = "redis://h/0?stream=renders&other=opensesame"
    assert addresses.masked("XADD renders opensesame", place) == "XADD renders ***"
    secret = "apprise:pover://alice-user@hunter2token"
    said = "no such token hunter2token of pover"
    assert addresses.masked(said, secret, has_secret_path=True) == "no such token *** of pover"
    assert addresses.masked("my password1", place, credentials=["password1"]) == "my ***"
