"""Callback tokens, operator passes, stored secrets and Standard Webhooks signatures."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer
from standardwebhooks import Webhook

from orchestrator.foundation.errors import BadSignature, BadToken, ConfigError
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.signing.standard_webhooks import key_bytes, new_secret, sign, verify
from tests.harness.vendor_samples import SAMPLES

NOW = datetime(2026, 11, 20, 10, 0, 0, 500_000, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
OURS = Callback("job_01", 2)


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (SAMPLES / "kling_v2" / f"callback_signed_{name}.json").read_bytes()
    )
    return found


def checked(name: str, at: int) -> bool:
    published = vector(name)
    now = datetime.fromtimestamp(at, UTC)
    return verify(
        [published["secret"]], published["headers"], published["raw_body"].encode(), now=now
    )


def test_the_vector_published_by_kling_verifies() -> None:
    assert checked("vector", vector("vector")["valid_at"])


def test_a_timestamp_is_stale_after_five_minutes() -> None:
    stale = vector("stale")["checked_at"]
    assert checked("vector", stale - 1)
    with pytest.raises(BadSignature, match="five minutes"):
        checked("stale", stale)
    with pytest.raises(BadSignature, match="five minutes"):
        checked("vector", vector("vector")["valid_at"] - 301)


@given(body=st.binary(), message=st.from_regex(r"[a-zA-Z0-9_\-]{1,40}", fullmatch=True))
def test_our_signatures_verify_here_and_with_the_public_library(body: bytes, message: str) -> None:
    """The library compares with the system clock, so the messages are signed now."""
    secret, now = new_secret(), datetime.now(UTC)
    headers = sign([secret], message, now, body)
    assert verify([secret], headers, body, now=now)
    text = body.decode("latin-1")
    Webhook(secret).verify(
        json.dumps(text), sign([secret], message, now, json.dumps(text).encode())
    )


def test_signatures_of_the_public_library_verify() -> None:
    secret = new_secret()
    signature = Webhook(secret).sign("msg_1", NOW, '{"a": 1}')
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": signature,
    }
    assert verify([secret], headers, b'{"a": 1}', now=NOW)


def test_during_a_rotation_any_pair_of_key_and_signature_verifies() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    both = sign([new, old], "m", NOW, b"x")
    assert all(
        verify(keys, both, b"x", now=NOW) for keys in ([old], [new], [other, old], [new, old])
    )
    assert verify([new, old], sign([old], "m", NOW, b"x"), b"x", now=NOW)
    padded = {**both, "webhook-signature": "v2,abc v1a,AAAA v1 " + both["webhook-signature"]}
    assert verify([old], padded, b"x", now=NOW)
    with pytest.raises(BadSignature):
        verify([other], both, b"x", now=NOW)


def test_a_message_without_the_headers_is_not_signed() -> None:
    assert verify([new_secret()], {}, b"x", now=NOW) is False
    assert verify([], {"content-type": "application/json"}, b"x", now=NOW) is False


SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
GOOD = sign([SECRET], "m", NOW, b"x")


@pytest.mark.parametrize(
    "gone", [("id",), ("timestamp",), ("signature",), ("id", "timestamp"), ("id", "signature")]
)
def test_some_of_the_headers_alone_are_a_bad_signature(gone: tuple[str, ...]) -> None:
    for absent in (None, ""):
        headers = {
            name: value for name, value in GOOD.items() if name.removeprefix("webhook-") not in gone
        }
        headers |= (
            {} if absent is None else dict.fromkeys((f"webhook-{part}" for part in gone), absent)
        )
        with pytest.raises(BadSignature, match="together"):
            verify([SECRET], headers, b"x", now=NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "other"},
        {"webhook-id": "m.m"},
        {"webhook-id": "mü"},
        {"webhook-timestamp": GOOD["webhook-timestamp"] + ".0"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "-5"},
        {"webhook-timestamp": "٣٣٣"},
        {"webhook-timestamp": "9" * 30},
        {"webhook-timestamp": str(int(GOOD["webhook-timestamp"]) + 1)},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,ü"},
        {"webhook-signature": "v1,!!!"},
        {"webhook-signature": GOOD["webhook-signature"].replace("v1,", "v2,")},
        {"webhook-signature": GOOD["webhook-signature"].removeprefix("v1,")},
        {"webhook-signature": "v1,AAAA " * 40 + GOOD["webhook-signature"]},
    ],
    ids=str,
)
def test_anything_wrong_with_a_header_is_a_bad_signature(changed: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify([SECRET], {**GOOD, **changed}, b"x", now=NOW)


def test_a_changed_body_or_no_secret_is_a_bad_signature() -> None:
    for keys, body in (([SECRET], b"y"), ([], b"x")):
        with pytest.raises(BadSignature):
            verify(keys, GOOD, body, now=NOW)


@given(
    headers=st.fixed_dictionaries(
        {f"webhook-{part}": st.text() for part in ("id", "timestamp", "signature")}
    )
)
def test_any_text_in_the_headers_is_a_bad_signature_and_no_other_error(
    headers: dict[str, str],
) -> None:
    signed = any(headers.values())
    with pytest.raises(BadSignature) if signed else nullcontext():
        assert verify([SECRET], headers, b"x", now=NOW) is False


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!", "whsec_ü", ""])
def test_a_secret_that_is_not_base64_is_a_config_error(secret: str) -> None:
    with pytest.raises(ConfigError):
        key_bytes(secret)


def test_new_secrets_hold_32_random_bytes() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_a_callback_token_holds_the_job_and_the_attempt() -> None:
    keys = Keys(["key-1"])
    token = keys.mint("main", OURS, LATER)
    assert keys.unseal("main", token, NOW) == OURS
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_a_token_is_valid_for_one_account_until_it_expires() -> None:
    keys = Keys(["key-1"])
    token = keys.mint("main", OURS, LATER)
    with pytest.raises(BadToken, match="this account"):
        keys.unseal("other", token, NOW)
    assert keys.unseal("main", token, LATER) == OURS
    with pytest.raises(BadToken, match="expired"):
        keys.unseal("main", token, LATER + timedelta(seconds=1))


def test_a_share_link_opens_one_job_until_it_expires_with_any_key_that_signed_it() -> None:
    token = Keys(["key-1"]).mint_share("job_01", LATER)
    rotated = Keys(["key-2", "key-1"])
    assert rotated.open_share(token, NOW) == "job_01"
    for now in (LATER, LATER + timedelta(days=1)):
        with pytest.raises(BadToken, match="expired"):
            rotated.open_share(token, now)
    others = ("", "x", token[:-1], token + "A", "\ud800", rotated.mint("main", OURS, LATER))
    for wrong in (*others, rotated.mint_pass(NOW), Keys(["key-3"]).mint_share("job_01", LATER)):
        with pytest.raises(BadToken, match="not the token of a share link"):
            rotated.open_share(wrong, NOW)


@pytest.mark.parametrize("purpose", ["callback:main", "operator", "share"])
def test_a_token_has_the_format_of_itsdangerous(purpose: str) -> None:
    """Vendors hold tokens for as long as a render takes, so the format must not change."""
    how = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    theirs = URLSafeSerializer("k" * 32, salt=purpose, signer_kwargs=how)
    ours = Keys(["k" * 32])._signer(purpose)
    for payload in (["job_01kb7x3m5tf6a8r2w9n4c1d0eh", 2, 1795330729], 1795330729):
        assert theirs.dumps(payload) == ours.seal(payload)
        assert theirs.loads(ours.seal(payload)) == ours.unseal(theirs.dumps(payload)) == payload


def test_tokens_stay_valid_until_their_key_is_removed() -> None:
    token = Keys(["old"]).mint("main", OURS, LATER)
    assert Keys(["new", "old"]).unseal("main", token, NOW) == OURS
    with pytest.raises(BadToken):
        Keys(["new"]).unseal("main", token, NOW)
    assert Keys(["new"]).unseal("main", Keys(["new", "old"]).mint("main", OURS, LATER), NOW) == OURS


def test_no_character_of_a_token_can_be_changed() -> None:
    keys = Keys(["key-1"])
    token = keys.mint("main", OURS, LATER)
    for at, character in enumerate(token[:-1]):
        forged = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        with pytest.raises(BadToken):
            keys.unseal("main", forged, NOW)


@settings(deadline=None)
@given(token=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_garbage_is_a_bad_token_and_nothing_else(token: str) -> None:
    with pytest.raises(BadToken):
        Keys(["key-1"]).unseal("main", token, NOW)


def test_an_operator_pass_is_not_a_callback_token_and_lasts_a_minute() -> None:
    keys = Keys(["new", "old"])
    pass_ = Keys(["old"]).mint_pass(NOW)
    assert keys.accepts_pass(pass_, NOW + timedelta(seconds=59))
    assert not keys.accepts_pass(pass_, NOW + timedelta(seconds=62))
    assert not keys.accepts_pass("x", NOW)
    with pytest.raises(BadToken):
        keys.unseal("main", pass_, NOW)


def test_a_stored_secret_can_be_decrypted_until_its_key_is_removed() -> None:
    stored = Keys(["old"]).encrypt("whsec_1")
    assert "whsec_1" not in stored
    assert Keys(["new", "old"]).decrypt(stored) == "whsec_1"
    for keys, text in ((Keys(["new"]), stored), (Keys(["old"]), "ü"), (Keys(["old"]), "")):
        with pytest.raises(ConfigError):
            keys.decrypt(text)


def test_callback_deliveries_are_signed_with_every_key_newest_first() -> None:
    assert Keys(["new", "old"]).callback_secrets == (
        *Keys(["new"]).callback_secrets,
        *Keys(["old"]).callback_secrets,
    )
    assert len({*Keys(["a"]).callback_secrets, *Keys(["b"]).callback_secrets}) == 2


def test_an_empty_list_of_secret_keys_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="secret_keys"):
        Keys([])


def test_other_base64_spellings_of_a_token_are_refused() -> None:
    """Base64 decodes several last characters alike; only the minted one is accepted."""
    keys = Keys(["k" * 32])
    token = keys.mint("main", OURS, LATER)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    opened = []
    for last in alphabet:
        with contextlib.suppress(BadToken):
            opened.append((last, keys.unseal("main", token[:-1] + last, NOW)))

    assert opened == [(token[-1], OURS)]
