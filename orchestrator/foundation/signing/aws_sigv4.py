"""AWS Signature Version 4, for a POST without a query.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

_ALGORITHM = "AWS4-HMAC-SHA256"


class AwsCredentials(NamedTuple):
    """A key pair; `session_token` belongs to temporary ones."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


def sign_post(
    credentials: AwsCredentials,
    *,
    region: str,
    service: str,
    host: str,
    headers: Mapping[str, str],
    body: bytes,
    at: datetime,
) -> dict[str, str]:
    """Return the headers of a signed POST to `/`: the given ones, lower case, and the signature."""
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {name.lower(): value.strip() for name, value in headers.items()}
    signed |= {"host": host, "x-amz-date": stamp}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{_hash(body)}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{_hash(canonical.encode())}"
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    signature = _mac(key, text).hex()
    owner = f"{credentials.access_key_id}/{scope}"
    proof = f"{_ALGORITHM} Credential={owner}, SignedHeaders={names}, Signature={signature}"
    return signed | {"authorization": proof}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
