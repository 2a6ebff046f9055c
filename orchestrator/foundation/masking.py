"""Secrets in text: what marks them, and what is shown in their place. It imports nothing heavy."""

from __future__ import annotations

import re

MASK = "***"
#: Prefix of an operator pass, made by `signing.secret_keys.Keys.admit`: a process that can read
#: `secret_keys` needs no API key.
OPERATOR_PREFIX = "orc_pass."
_URL_PASSWORD = re.compile(r"(://[^/@\s:]*):[^/\s]*@")


def without_password(text: str) -> str:
    """Return a text with the password of each URL in it masked."""
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
